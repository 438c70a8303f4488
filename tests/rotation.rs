//! The passwords of the database's logins are rotated while requests run and processes start: no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use tokio_postgres::Config;

use crate::harness::{Account, Value, World, connect, json, stack_test, until};

/// The secrets of the logins.
const SECRETS: [&str; 2] = ["oslira/local/database", "oslira/local/database-admin"];

async fn secret(world: &World, name: &str) -> Value {
    let found = world.secrets.get_secret_value().secret_id(name).send().await.unwrap();
    serde_json::from_str(found.secret_string().unwrap()).unwrap()
}

async fn put(world: &World, name: &str, value: &Value) {
    world.secrets.put_secret_value().secret_id(name).secret_string(value.to_string()).send().await.unwrap();
}

fn url_of(secret: &Value) -> &str {
    secret["url"].as_str().unwrap()
}

/// Returns the URL with another password.
fn with_password(url: &str, password: &str) -> String {
    let config: Config = url.parse().unwrap();
    let old = std::str::from_utf8(config.get_password().unwrap()).unwrap();
    url.replacen(&format!(":{old}@"), &format!(":{password}@"), 1)
}

/// Requests and runs that continue until `over` is set.
struct Load {
    world: Arc<World>,
    account: Account,
    over: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    async fn reads(&self) {
        while !self.over.load(Ordering::Relaxed) {
            // Within one user's limit of a minute.
            let account = self.world.account(0).await;
            for _ in 0..40 {
                account.get("/api/credits/balance").await.data(200);
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn runs(&self) {
        while !self.over.load(Ordering::Relaxed) {
            let ended = self.account.run(&self.world.handle("rotated"), "light").await;
            assert_eq!(ended.status(), "completed", "{}", ended.progress);
        }
    }

    async fn until_answered(&self, more: usize) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        until("more answers", Duration::from_mins(1), || async { (self.answered.load(Ordering::Relaxed) >= goal).then_some(()) }).await;
    }
}

#[stack_test(alone)]
async fn passwords_of_the_database_are_rotated_while_requests_run(world: Arc<World>) {
    let first = [secret(&world, SECRETS[0]).await, secret(&world, SECRETS[1]).await];
    let account = world.account(200).await;
    let load = Load { world: world.clone(), account, over: AtomicBool::new(false), answered: AtomicUsize::new(0) };
    let rotating = async {
        load.until_answered(20).await;
        for password in ["a-new-password", "another-one"] {
            let mut rotated = Vec::new();
            for name in SECRETS {
                let old = secret(&world, name).await;
                let new = json!({ "url": with_password(url_of(&old), password) });
                put(&world, name, &new).await;
                rotated.push((old, new));
            }
            // The secret has the new password before the database: processes that start now read one that is not valid yet.
            let started = join_all((0..4).map(|_| load.account.get("/api/leads")));
            let nothing = json!({});
            let (started, migrated) = tokio::join!(started, world.invoke("migrate", &nothing));
            assert_eq!(migrated.unwrap()["passwords_set"], json!(["oslira_user", "oslira_admin"]));
            for answer in started {
                answer.data(200);
            }
            for (old, new) in &rotated {
                assert!(connect(url_of(old)).await.is_err(), "the old password is of no use");
                connect(url_of(new)).await.unwrap();
            }
            // A process with a connection of the old password needs another one.
            let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename LIKE 'oslira%' AND state = 'idle'";
            assert!(world.db.value::<i64>(end, &[]).await.unwrap() > 0);
            load.until_answered(50).await;
        }
        load.over.store(true, Ordering::Relaxed);
    };
    tokio::join!(rotating, load.reads(), load.reads(), load.reads(), load.runs());

    for (name, value) in SECRETS.iter().zip(&first) {
        put(&world, name, value).await;
    }
    world.invoke("migrate", &json!({})).await.unwrap();
    assert_eq!(load.account.get("/api/credits/balance").await.status, 200);
}
