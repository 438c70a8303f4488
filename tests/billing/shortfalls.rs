//! What a returned payment leaves open: credits that were spent are collected later, and a dispute suspends spending.

use std::sync::Arc;

use super::chargebacks::{dispute, payment, refund};
use crate::harness::{Account, Value, World, json, stack_test};

/// Returns the run ids of XRAY analyses that are charged and wait for their profiles.
async fn charged_runs(world: &World, account: &Account, count: usize) -> Vec<String> {
    let user = account.owner().await;
    let mut runs = Vec::new();
    for handle in world.handles("charged", count) {
        let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
        let input = json!({
            "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": user, "username": handle,
            "tier": "xray", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        let admitted: Value = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &input]).await.unwrap();
        assert_eq!(admitted["outcome"], json!("admitted"), "{admitted}");
        runs.push(run_id);
    }
    runs
}

/// A payment that comes back while its credits are charged for runs: cancelling the runs must not bring the credits back as well.
#[stack_test]
async fn money_and_credits_do_not_both_come_back(world: Arc<World>) {
    for is_dispute in [false, true] {
        let account = world.account(0).await;
        let intent = account.buy(100).await;
        let runs = charged_runs(&world, &account, 20).await;
        assert_eq!(account.balance().await, 0);
        if is_dispute {
            dispute(&world, &intent, json!({})).await;
        } else {
            refund(&world, &intent, None).await;
        }
        assert_eq!((account.balance().await, payment(&world, &intent).await), (0, json!([100, 0, 100])));
        for (number, run_id) in runs.iter().enumerate() {
            assert_eq!(account.cancel(run_id).await.data(200)["credits_refunded"], json!(5));
            assert_eq!(account.entries(run_id).await, [("analysis".to_owned(), -5), ("refund".to_owned(), 5)]);
            let taken = 5 * (number + 1);
            assert_eq!((account.balance().await, payment(&world, &intent).await), (0, json!([100, taken, 100 - taken])));
        }
        // Everything is paid: new credits are free again, once the dispute is decided.
        account.buy(10).await;
        assert_eq!(account.balance().await, 10);
    }
}

#[stack_test]
async fn a_dispute_suspends_spending_until_it_is_decided(world: Arc<World>) {
    for won in [true, false] {
        let account = world.account(0).await;
        let (disputed, _) = (account.buy(10).await, account.buy(50).await);
        let early =
            json!({ "businessProfileId": account.business_profile_id, "usernames": world.handles("early", 2), "analysisType": "light" });
        assert_eq!(account.post("/api/leads/analyze/bulk", &early).await.status, 202);
        let before = account.balance().await;
        world.stripe(&format!("payment_intents/{disputed}/dispute"), json!({})).await;
        world.until_recorded(&disputed).await;
        let balance = account.get("/api/credits/balance").await.data(200);
        assert!(balance["disputed_since"].is_string() && before > 0, "{balance}");
        // One analysis, a batch, and a run whose admission comes after the dispute.
        account.analyze(&world.handle("suspended"), "light").await.problem(402, "SPENDING_SUSPENDED");
        let bulk = json!({ "businessProfileId": account.business_profile_id, "usernames": world.handles("suspended", 2), "analysisType": "light" });
        account.post("/api/leads/analyze/bulk", &bulk).await.problem(402, "SPENDING_SUSPENDED");
        let input = json!({
            "account_id": account.id, "business_profile_id": account.business_profile_id, "requested_by": account.owner().await,
            "username": world.handle("late"), "tier": "light", "requested_at_ms": jiff::Timestamp::now().as_millisecond(),
        });
        let run_id = format!("run_{}", uuid::Uuid::now_v7().simple());
        let admission: Value = world.db.value("SELECT admit_analysis($1, $2)", &[&run_id, &input]).await.unwrap();
        assert_eq!((&admission["outcome"], &admission["error_code"]), (&json!("failed"), &json!("SPENDING_SUSPENDED")));
        // Not even the function that charges does.
        let charge = "SELECT deduct_credits_atomic($1::text::uuid, 1, $2)";
        let error = world.db.connect().await.query(charge, &[&account.id, &run_id]).await.unwrap_err();
        assert_eq!(error.as_db_error().map(|error| error.code().code()), Some("OS402"));

        let id = world.stripe_event("charge.dispute.created", &disputed).await["data"]["object"]["id"].as_str().unwrap().to_owned();
        world.stripe(&format!("disputes/{id}/close"), json!({ "won": won })).await;
        world.until_recorded(&disputed).await;
        let after = account.get("/api/credits/balance").await.data(200);
        assert_eq!(after["disputed_since"], json!(null));
        assert_eq!(payment(&world, &disputed).await, if won { json!([10, 0, 0]) } else { json!([10, 10, 0]) });
        assert_eq!(account.run(&world.handle("decided"), "light").await.status(), "completed");
    }
}
