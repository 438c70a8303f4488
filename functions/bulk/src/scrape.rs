//! One Actor run for many handles: started, remembered, waited for, booked and read.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use oslira_aws::secrets::Secrets;
use oslira_db::AdminDb;
use oslira_db::workflow::VendorCall;
use oslira_domain::{BatchId, RunId, Username};
use oslira_lambda::queue::MessageError;
use oslira_vendors::{ActorRun, ActorRunStatus, Apify, ScrapedItem, VendorError};
use secrecy::SecretString;
use serde::Deserialize;

/// How long one poll waits at Apify. Between polls we ask whether anybody still waits.
const POLL: Duration = Duration::from_secs(5);
/// What is kept of an invocation's time for what follows the Actor run: reading it, the cache, the starts.
const AFTERWARDS: Duration = Duration::from_secs(40);
/// How long we wait for Apify to have free resources, and how long between two questions.
const BUSY: Duration = Duration::from_mins(1);
const BUSY_PAUSE: Duration = Duration::from_secs(3);

/// The secret `apify`.
#[derive(Deserialize)]
struct ApifySecret {
    token: SecretString,
}

/// The runs whose profiles one Actor run fetches.
pub(crate) struct Visit<'a> {
    pub(crate) batch_id: &'a BatchId,
    pub(crate) run_ids: &'a [RunId],
    pub(crate) handles: &'a [Username],
    /// The Actor run that was started for them before.
    pub(crate) remembered: Option<String>,
    pub(crate) deadline: Instant,
}

/// What an Actor run brought.
pub(crate) struct Visited {
    pub(crate) actor_run: ActorRun,
    /// In the order of the handles.
    pub(crate) items: Vec<ScrapedItem>,
}

/// The client of Apify, with where its runs are remembered and booked.
#[derive(Clone)]
pub(crate) struct Scraper {
    pub(crate) apify: Apify,
    pub(crate) secrets: Secrets,
    pub(crate) db: AdminDb,
}

impl Scraper {
    /// Fetches the profiles in one Actor run, which is remembered as soon as it has started: another delivery of the same group waits for it
    /// instead of paying for one more. `None` when nobody waits for the profiles any longer.
    ///
    /// # Errors
    /// When the Actor run did not succeed, after it was booked and forgotten, or Apify cannot be asked.
    pub(crate) async fn visit(&self, visit: &Visit<'_>) -> Result<Option<Visited>, MessageError> {
        let started_at = Timestamp::now();
        let id = match &visit.remembered {
            Some(id) => Some(id.clone()),
            None => self.start(visit).await?,
        };
        let Some(id) = id else { return Ok(None) };
        let (actor_run, wanted) = self.wait(visit, &id).await?;
        self.book(visit, &actor_run, started_at).await?;
        if !wanted {
            return Ok(None);
        }
        if actor_run.status != ActorRunStatus::Succeeded {
            self.db.remember_group_scrape(visit.batch_id, visit.run_ids, None, Some(&id)).await?;
            return Err(MessageError::Unavailable(format!("the Actor run ended as {:?}", actor_run.status)));
        }
        let items = self.authorized(async |token| self.apify.items(&token, &actor_run, visit.handles).await).await?;
        Ok(Some(Visited { actor_run, items }))
    }

    /// Starts an Actor run and remembers it. If a twin of this delivery was faster, ours is aborted and the twin's counts.
    async fn start(&self, visit: &Visit<'_>) -> Result<Option<String>, MessageError> {
        let (begun, started_at) = (Instant::now(), Timestamp::now());
        let started = loop {
            match self.authorized_call(async |token| self.apify.start(&token, visit.handles).await).await? {
                Err(VendorError::RateLimited { .. }) if begun.elapsed() < BUSY => tokio::time::sleep(BUSY_PAUSE).await,
                Err(error) => return Err(error.into()),
                Ok(started) => break started,
            }
        };
        let wanted = self.db.remember_group_scrape(visit.batch_id, visit.run_ids, Some(&started.id), None).await;
        if !matches!(&wanted, Ok(Some(id)) if *id == started.id) {
            self.abort(visit, &started.id, started_at).await;
        }
        Ok(wanted?)
    }

    /// Polls until the Actor run ends, or nobody waits for it, or time is up; the last two abort it. Answers also whether somebody waits.
    async fn wait(&self, visit: &Visit<'_>, id: &str) -> Result<(ActorRun, bool), MessageError> {
        loop {
            let actor_run = self.authorized(async |token| self.apify.wait(&token, id, POLL).await).await?;
            if actor_run.status.is_terminal() {
                return Ok((actor_run, true));
            }
            let wanted = !self.db.begin_group(visit.batch_id, visit.run_ids).await?.is_empty();
            if !wanted || visit.deadline.saturating_duration_since(Instant::now()) < AFTERWARDS {
                let aborted = self.authorized(async |token| self.apify.abort(&token, id).await).await.unwrap_or(actor_run);
                return Ok((aborted, wanted));
            }
        }
    }

    async fn abort(&self, visit: &Visit<'_>, id: &str, started_at: Timestamp) {
        let aborted = self.authorized(async |token| self.apify.abort(&token, id).await).await;
        let booked = match aborted {
            Ok(actor_run) => self.book(visit, &actor_run, started_at).await,
            Err(error) => Err(error),
        };
        if let Err(error) = booked {
            tracing::warn!(%error, "Actor run not aborted, or not booked"); // it ends by itself
        }
    }

    /// Books the Actor run in equal shares for all that it was started for, once.
    async fn book(&self, visit: &Visit<'_>, actor_run: &ActorRun, started_at: Timestamp) -> Result<(), MessageError> {
        let duration = i64::try_from(Timestamp::now().duration_since(started_at).as_millis()).unwrap_or_default();
        let status = actor_run.status.booked_as();
        let call = VendorCall::scrape(&actor_run.id, status, actor_run.cost, started_at.as_millisecond(), duration);
        Ok(self.db.book_group_scrape(visit.batch_id, visit.run_ids, &call).await?)
    }

    /// Asks Apify, once more with a fresh token if ours is refused: it may have been rotated.
    async fn authorized_call<T>(
        &self,
        call: impl AsyncFn(SecretString) -> Result<T, VendorError>,
    ) -> Result<Result<T, VendorError>, MessageError> {
        let token = self.secrets.get::<ApifySecret>("apify", false).await?.token;
        match call(token).await {
            Err(error) if error.is_unauthorized() => Ok(call(self.secrets.get::<ApifySecret>("apify", true).await?.token).await),
            answered => Ok(answered),
        }
    }

    async fn authorized<T>(&self, call: impl AsyncFn(SecretString) -> Result<T, VendorError>) -> Result<T, MessageError> {
        Ok(self.authorized_call(call).await??)
    }
}
