//! Functions that are invoked by their name: by another function, by CloudFormation, or by an operator.

use lambda_runtime::{LambdaEvent, service_fn};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::field::Empty;

use crate::failure::{Failure, Panicked, Severity};
use crate::invocation::{Event, Invocation};
use crate::{Diagnostic, Error, invocation_span};

/// The failure of a direct invocation. Always a defect: its caller is a machine of ours that has no other error to expect.
#[derive(Debug)]
pub(crate) struct DirectFailure {
    pub(crate) code: &'static str,
    pub(crate) cause: String,
}

impl DirectFailure {
    /// An input that is not what the function expects.
    pub(crate) fn malformed_input(error: &serde_json::Error) -> Self {
        Self { code: "MALFORMED_INPUT", cause: format!("malformed input: {error}") }
    }
}

impl From<Panicked> for DirectFailure {
    fn from(panicked: Panicked) -> Self {
        Self { code: "PANICKED", cause: panicked.to_string() }
    }
}

impl Failure for DirectFailure {
    fn severity(&self) -> Severity {
        Severity::Defect
    }

    fn code(&self) -> &'static str {
        self.code
    }

    fn cause(&self) -> Option<String> {
        Some(self.cause.clone())
    }
}

impl From<DirectFailure> for Diagnostic {
    fn from(failure: DirectFailure) -> Self {
        Self { error_type: failure.code.to_owned(), error_message: failure.cause }
    }
}

/// Runs a function until the environment ends. What fails is counted under `code`.
///
/// The span has the field `account_id`, which the handler may record.
///
/// # Errors
/// When the runtime cannot be reached.
pub async fn run<D, I, O>(code: &'static str, deps: D, handler: impl AsyncFn(Event<I>, &D) -> Result<O, Error>) -> Result<(), Error>
where
    I: DeserializeOwned,
    O: Serialize,
{
    let (deps, handler) = (&deps, &handler);
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Value>| invoke(event, code, deps, handler))).await
}

async fn invoke<D, I, O>(
    event: LambdaEvent<Value>,
    code: &'static str,
    deps: &D,
    handler: &impl AsyncFn(Event<I>, &D) -> Result<O, Error>,
) -> Result<O, DirectFailure>
where
    I: DeserializeOwned,
{
    let LambdaEvent { payload, context } = event;
    let invocation = Invocation::from(&context);
    let span = invocation_span!("direct", invocation, account_id = Empty);
    let deadline = invocation.deadline;
    let work = async {
        let payload = serde_json::from_value(payload).map_err(|error| DirectFailure::malformed_input(&error))?;
        let outcome = handler(Event { payload, deadline }, deps).await;
        outcome.map_err(|error| DirectFailure { code, cause: error.to_string() })
    };
    // Boxed: the SDKs' futures nest deeper than the compiler analyzes.
    invocation.run(span, &[], Box::pin(work)).await
}

#[cfg(test)]
mod tests {
    use lambda_runtime::Context;
    use serde_json::json;

    use super::*;

    async fn invoked(payload: Value) -> Result<u32, (&'static str, String)> {
        let handler = async |event: Event<u32>, (): &()| match event.payload {
            0 => std::panic::panic_any("zero"),
            1 => Err("one".into()),
            number => Ok(number),
        };
        let outcome = invoke(LambdaEvent::new(payload, Context::default()), "TEST_FAILED", &(), &handler).await;
        outcome.map_err(|failure| (failure.code, failure.cause))
    }

    #[tokio::test]
    async fn every_failure_has_a_code() {
        assert_eq!(invoked(json!(7)).await, Ok(7));
        assert_eq!(invoked(json!(0)).await, Err(("PANICKED", "panicked".to_owned())));
        assert_eq!(invoked(json!(1)).await, Err(("TEST_FAILED", "one".to_owned())));
        let (code, cause) = invoked(json!({})).await.unwrap_err();
        assert!(code == "MALFORMED_INPUT" && cause.starts_with("malformed input"), "{cause}");
    }
}
