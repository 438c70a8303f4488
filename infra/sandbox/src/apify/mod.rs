//! The Apify API, as far as it concerns runs of the profile scraper: starting, polling, reading and aborting them.

mod calls;
mod reads;
mod runs;
mod starts;

use std::sync::Arc;

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};

pub(crate) use calls::{Apify, OPERATIONS};
use reads::{abort, dataset, items, list, log, me, poll};

/// Returns the routes below `/apify`.
pub(crate) fn routes(apify: Arc<Apify>) -> Router {
    let actor = || {
        Router::new()
            .route("/{actor}", get(starts::actor))
            .route("/{actor}/runs", post(starts::start).get(list))
            .route("/{actor}/run-sync-get-dataset-items", post(starts::run_sync))
    };
    Router::new()
        .nest("/v2/actors", actor())
        .nest("/v2/acts", actor())
        .route("/v2/actor-runs", get(list))
        .route("/v2/actor-runs/{run}", get(poll))
        .route("/v2/actor-runs/{run}/abort", post(abort))
        .route("/v2/actor-runs/{run}/log", get(log))
        .route("/v2/logs/{run}", get(log))
        .route("/v2/actor-runs/{run}/dataset", get(dataset))
        .route("/v2/actor-runs/{run}/dataset/items", get(items))
        .route("/v2/datasets/{run}", get(dataset))
        .route("/v2/datasets/{run}/items", get(items))
        .route("/v2/users/me", get(me))
        .fallback(unknown)
        .with_state(apify)
}

async fn unknown() -> Response {
    calls::error(404, "page-not-found", "We have bad news: there is no API endpoint at this URL.")
}
