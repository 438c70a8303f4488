//! The catalog of API errors: every code that the API responds with, once.
//!
//! An entry states the status, the meaning (as the API's document has it) and the type of `details`. Where the text for people differs
//! from the meaning, `message` states it; handlers may replace it by one that names values.
//!
//! A code that means something narrower at some endpoints has a second constant, derived from its entry with
//! [`ApiError::meaning`](crate::ApiError::meaning).

mod details;

use http::StatusCode;

use crate::api_error::ApiError;
use crate::fault::Fault;

pub use details::{CancelledRun, FailedRun, IncompleteRun, LiveLead, LiveRun, PlanLimit, Shortfall};

/// Declares the entries. The name of each constant is the code.
macro_rules! catalog {
    ($($code:ident: $details:ty = $status:ident, $meaning:literal $(, $attribute:ident($value:literal))*;)*) => {
        $(
            #[doc = $meaning]
            pub const $code: ApiError<$details> =
                ApiError::new(StatusCode::$status, stringify!($code), $meaning)$(.$attribute($value))*;
        )*

        /// Every code of the catalog.
        pub const CODES: &[&str] = &[$(stringify!($code)),*];
    };
}

catalog! {
    // The request.
    VALIDATION_ERROR: Vec<Fault> = BAD_REQUEST, "`details` lists every fault of the request.", message("The request is not valid.");
    INVALID_JSON: () = BAD_REQUEST, "The body is not valid JSON.";
    PAYLOAD_TOO_LARGE: () = PAYLOAD_TOO_LARGE, "The body is larger than 64 KB.";
    UNSUPPORTED_MEDIA_TYPE: () = UNSUPPORTED_MEDIA_TYPE, "The body is not `application/json`.",
        message("The body must be application/json.");
    IDEMPOTENCY_KEY_IN_USE: () = CONFLICT, "The first request with this key is still being processed.",
        message("The first request with this Idempotency-Key is still being processed."), retry_after(1);
    IDEMPOTENCY_KEY_REUSED: () = UNPROCESSABLE_ENTITY, "The key was used for another request.",
        message("This Idempotency-Key was used for another request.");

    // The caller.
    UNAUTHORIZED: () = UNAUTHORIZED, "The request has no bearer token.", message("A bearer token is required.");
    INVALID_TOKEN: () = UNAUTHORIZED, "The token is invalid, expired or not valid yet.", message("The token is not valid.");
    NO_ACCOUNTS: () = FORBIDDEN, "The caller is not a member of any account.", message("You are not a member of any account.");
    FORBIDDEN: () = FORBIDDEN, "The caller's role does not allow the request.", message("You are not allowed to do this.");
    NOT_FOUND: () = NOT_FOUND, "The resource does not exist or belongs to another account. The response does not reveal which.",
        message("Not found.");
    RATE_LIMIT_EXCEEDED: () = TOO_MANY_REQUESTS, "The caller exceeds a rate limit.", message("Too many requests. Please slow down.");

    // The service.
    INTERNAL_ERROR: () = INTERNAL_SERVER_ERROR, "An unexpected error occurred. The response does not reveal its cause.",
        message("Something went wrong on our side.");
    SERVICE_UNAVAILABLE: () = SERVICE_UNAVAILABLE, "A dependency of the endpoint is temporarily unavailable.",
        message("The service is temporarily unavailable."), retry_after(2);

    // Analyses.
    INSUFFICIENT_CREDITS: Shortfall = PAYMENT_REQUIRED, "The balance does not cover the tier's price.";
    SPENDING_SUSPENDED: () = PAYMENT_REQUIRED, "A payment of the account is disputed. Credits cannot be spent until the dispute is decided.";
    DUPLICATE_ANALYSIS: LiveRun = CONFLICT, "The handle is already being analyzed for this business profile.";
    ALREADY_COMPLETE: () = CONFLICT, "The run has already completed or failed.";
    ANALYSIS_FAILED: FailedRun = CONFLICT, "The run failed and was not charged. `details` states the reason.",
        message("The analysis failed. You were not charged.");
    ANALYSIS_CANCELLED: CancelledRun = CONFLICT, "The run was cancelled.", message("The analysis was cancelled.");
    NOT_COMPLETE: IncompleteRun = TOO_EARLY, "The run has not ended yet.", message("The analysis is still running."), retry_after(1);

    // Leads and business profiles.
    LEAD_EXISTS: LiveLead = CONFLICT, "The handle was analyzed again after the lead was deleted.";
    PLAN_LIMIT: PlanLimit = FORBIDDEN, "The plan does not allow another business profile.";

    // The profile cache.
    PROFILE_NOT_FOUND: () = UNPROCESSABLE_ENTITY, "Instagram has no such profile.";
    PROFILE_RESTRICTED: () = UNPROCESSABLE_ENTITY, "Instagram shows the profile only to users of some age or in some countries.";
    PROFILE_PRIVATE: () = UNPROCESSABLE_ENTITY, "The profile is private, as it was before.";
    PROFILE_BLOCKED: () = SERVICE_UNAVAILABLE, "Instagram did not serve the profile this time.", retry_after(60);
    SCRAPE_FAILED: () = SERVICE_UNAVAILABLE, "The profile could not be fetched this time.", retry_after(60);
    SCRAPE_TIMED_OUT: () = SERVICE_UNAVAILABLE, "Fetching the profile took too long.", retry_after(30);

    // Stripe's webhook.
    SIGNATURE_INVALID: () = BAD_REQUEST, "The signature is missing, too old, or does not match the body.";
    INVALID_EVENT: () = BAD_REQUEST, "The body is not a Stripe event.";
}

/// The account in `X-Account-Id` is not one of the caller's.
pub const NOT_A_MEMBER: ApiError = FORBIDDEN
    .meaning("The caller is not a member of the account in `X-Account-Id`.")
    .message("You are not a member of the account in X-Account-Id.");

/// The endpoint writes, and the caller may only read.
pub const READ_ONLY: ApiError =
    FORBIDDEN.meaning("The caller is a viewer, or not a member of the account in `X-Account-Id`.").message("Viewers cannot do this.");

/// No run with this id exists in the caller's accounts.
pub const ANALYSIS_NOT_FOUND: ApiError = NOT_FOUND
    .meaning("The analysis does not exist or belongs to another account. The response does not reveal which.")
    .message("Analysis not found.");

/// No batch with this id exists in the account.
pub const BATCH_NOT_FOUND: ApiError = NOT_FOUND
    .meaning("The batch does not exist or belongs to another account. The response does not reveal which.")
    .message("Batch not found.");

/// No business profile with this id exists in the account.
pub const BUSINESS_PROFILE_NOT_FOUND: ApiError = NOT_FOUND
    .meaning("The business profile does not exist or belongs to another account. The response does not reveal which.")
    .message("Business profile not found.");

/// No lead with this id exists in the account.
pub const LEAD_NOT_FOUND: ApiError = NOT_FOUND
    .meaning("The lead does not exist or belongs to another account. The response does not reveal which.")
    .message("Lead not found.");
