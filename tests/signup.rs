//! Signup: Supabase Auth inserts a user into `auth.users`, and the database creates the rest.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::harness::{Account, Value, World, json, stack_test};

/// Supabase inserts users before they confirm their address, unless the project does not ask for it, as here.
const INSERT: &str = "INSERT INTO auth.users (id, email, email_confirmed_at, raw_user_meta_data) VALUES ($1, $2, CASE WHEN $2::text IS NOT NULL THEN now() END, $3)";

/// Signs a user up with an address that no other test uses.
async fn sign_up(world: &World, full_name: &str) -> Uuid {
    let user = Uuid::now_v7();
    world.db.rows(INSERT, &[&user, &format!("{}@example.com", user.simple()), &json!({ "full_name": full_name })]).await;
    user
}

/// Returns a user's names, credits and subscription.
async fn user_row(world: &World, user: Uuid) -> Value {
    let sql =
        "SELECT jsonb_build_object('email', u.email, 'full_name', u.full_name, 'avatar_url', u.avatar_url, 'name', a.name, 'slug', a.slug,
            'role', m.role, 'balance', b.current_balance, 'entries', (SELECT count(*) FROM credit_ledger l WHERE l.account_id = a.id),
            'plans', (SELECT jsonb_agg(s.plan_id || ' ' || s.status) FROM subscriptions s WHERE s.account_id = a.id))
        FROM users u JOIN accounts a ON a.owner_id = u.id JOIN account_members m ON m.account_id = a.id AND m.user_id = u.id
        JOIN credit_balances b ON b.account_id = a.id WHERE u.id = $1";
    let rows = world.db.rows(sql, &[&user]).await;
    assert_eq!(rows.len(), 1, "one account a user");
    rows[0].get(0)
}

#[stack_test]
async fn signup_gives_25_credits_once(world: Arc<World>) {
    let user = sign_up(&world, "Ann Lee").await;
    let repeats = (0..10).map(|_| async { world.db.rows("SELECT create_account_atomic($1)", &[&user]).await });
    futures::future::join_all(repeats).await;
    let found = user_row(&world, user).await;
    // A repetition with fewer arguments removes nothing.
    assert_eq!(found["email"], json!(format!("{}@example.com", user.simple())));
    assert_eq!((&found["name"], &found["role"], &found["plans"]), (&json!("Ann Lee's Account"), &json!("owner"), &json!(["free active"])));
    assert_eq!((&found["balance"], &found["entries"]), (&json!(25), &json!(1)));
}

#[stack_test]
async fn no_signup_waits_for_another(world: Arc<World>) {
    let unfinished = world.db.connect().await;
    let user = Uuid::now_v7();
    let email = format!("{}@example.com", user.simple());
    unfinished.batch_execute("BEGIN").await.unwrap();
    unfinished.execute(INSERT, &[&user, &email, &json!({ "full_name": format!("Slow {user}") })]).await.unwrap();
    let other = tokio::time::timeout(Duration::from_secs(20), sign_up(&world, &format!("Quick {}", Uuid::now_v7()))).await;
    assert_eq!(user_row(&world, other.expect("no signup waits")).await["balance"], json!(25));
    unfinished.batch_execute("COMMIT").await.unwrap();
    assert_eq!(user_row(&world, user).await["balance"], json!(25));
}

#[stack_test]
async fn users_with_the_same_name_get_separate_accounts(world: Arc<World>) {
    let name = format!("Twin {}", Uuid::now_v7().simple());
    let users = futures::future::join_all((0..20).map(|_| sign_up(&world, &name))).await;
    let mut slugs = Vec::new();
    for user in users {
        slugs.push(user_row(&world, user).await["slug"].as_str().unwrap().to_owned());
    }
    slugs.sort();
    slugs.dedup();
    assert_eq!(slugs.len(), 20);
    let base = name.to_lowercase().replace(' ', "-");
    assert!(slugs.iter().all(|slug| slug.starts_with(&base)), "{slugs:?}");
}

#[stack_test]
async fn a_signups_fields_are_bounded(world: Arc<World>) {
    let long = "Ünïcode & <b>".repeat(5000);
    let user = Uuid::now_v7();
    let link = format!("https://example.com/{}", "a".repeat(100_000));
    world.db.rows(INSERT, &[&user, &None::<String>, &json!({ "full_name": long, "avatar_url": link })]).await;
    let found = user_row(&world, user).await;
    let length = |field: &str| found[field].as_str().unwrap().chars().count();
    assert!(length("full_name") <= 200 && length("name") <= 220 && length("slug") <= 60, "{found}");
    assert_eq!((&found["avatar_url"], &found["balance"]), (&json!(null), &json!(0)));
    // Every form of no name.
    for full_name in [json!(null), json!(""), json!("   "), json!("\u{2603}")] {
        let user = Uuid::now_v7();
        world.db.rows(INSERT, &[&user, &None::<String>, &json!({ "full_name": full_name })]).await;
        let found = user_row(&world, user).await;
        assert!(!found["slug"].as_str().unwrap().is_empty() && found["balance"] == json!(0), "{found}");
    }
}

#[stack_test]
async fn an_email_follows_its_user_and_blocks_no_signup(world: Arc<World>) {
    let user = sign_up(&world, "Ann Mail").await;
    let first = format!("{}@example.com", user.simple());
    world.db.rows("UPDATE auth.users SET email = 'new-' || email WHERE id = $1", &[&user]).await;
    assert_eq!(user_row(&world, user).await["email"], json!(format!("new-{first}")));
    // Our copy may be outdated. The address belongs to the user that Supabase has it for. It gave its credits to the first one.
    world.db.rows("UPDATE users SET email = $2 WHERE id = $1", &[&user, &first]).await;
    let second = Uuid::now_v7();
    world.db.rows(INSERT, &[&second, &first, &json!({})]).await;
    assert_eq!(user_row(&world, second).await["email"], json!(first));
}

#[stack_test]
async fn anonymous_users_get_credits_when_they_become_permanent(world: Arc<World>) {
    let user = Uuid::now_v7();
    world.db.rows("INSERT INTO auth.users (id, is_anonymous) VALUES ($1, true)", &[&user]).await;
    world.db.rows("SELECT create_account_atomic($1)", &[&user]).await;
    // No credits, and no subscription that could be renewed.
    let found = user_row(&world, user).await;
    assert_eq!((&found["balance"], &found["entries"], &found["plans"]), (&json!(0), &json!(0), &json!(null)));
    let email = format!("{}@example.com", user.simple());
    world.db.rows("UPDATE auth.users SET email = $2, email_confirmed_at = now() WHERE id = $1", &[&user, &email]).await;
    assert_eq!(user_row(&world, user).await["balance"], json!(0));
    for _ in 0..2 {
        world.db.rows("UPDATE auth.users SET is_anonymous = NOT is_anonymous WHERE id = $1", &[&user]).await;
    }
    world.db.rows("UPDATE auth.users SET is_anonymous = false WHERE id = $1", &[&user]).await;
    let found = user_row(&world, user).await;
    assert_eq!((&found["email"], &found["balance"], &found["plans"]), (&json!(email), &json!(25), &json!(["free active"])));
    assert_eq!(found["entries"], json!(1));
}

/// Deletes a user as Supabase's dashboard and `auth.admin.deleteUser` do.
async fn delete_user(world: &World, account: &Account) {
    let sql = "DELETE FROM auth.users WHERE id = (SELECT owner_id FROM accounts WHERE id = $1::text::uuid)";
    world.db.rows(sql, &[&account.id]).await;
}

/// Returns an account's owner and whether the account is deleted.
async fn ownership(world: &World, account: &Account) -> (Option<String>, bool) {
    let sql = "SELECT owner_id::text, deleted_at IS NOT NULL FROM accounts WHERE id = $1::text::uuid";
    let row = world.db.rows(sql, &[&account.id]).await.remove(0);
    (row.get(0), row.get(1))
}

#[stack_test]
async fn a_user_who_is_deleted_leaves_a_deleted_account_with_its_ledger(world: Arc<World>) {
    let account = world.account(5).await;
    let done = account.run(&world.handle("left"), "light").await;
    let entries = account.entries(&done.run_id).await;
    delete_user(&world, &account).await;
    assert_eq!(ownership(&world, &account).await, (None, true));
    assert_eq!((account.entries(&done.run_id).await, account.balance().await), (entries, 4));
    // The token is valid until it expires, and reaches nothing.
    account.get("/api/credits/balance").await.problem(403, "NO_ACCOUNTS");
}

#[stack_test]
async fn the_account_of_a_deleted_user_goes_to_its_first_admin(world: Arc<World>) {
    let (account, member, admin) = (world.account(5).await, world.account(0).await, world.account(0).await);
    account.admit_member(&member, "member").await;
    account.admit_member(&admin, "admin").await;
    let successor = admin.owner().await;
    delete_user(&world, &account).await;
    assert_eq!(ownership(&world, &account).await, (Some(successor.clone()), false));
    let roles = "SELECT string_agg(role, ' ' ORDER BY role) FROM account_members WHERE account_id = $1::text::uuid";
    assert_eq!(world.db.value::<String>(roles, &[&account.id]).await.as_deref(), Some("member owner"));
    // Deleting that user as well ends both accounts of theirs, and not the member's.
    delete_user(&world, &admin).await;
    assert_eq!(ownership(&world, &account).await, (None, true));
    assert_eq!(ownership(&world, &admin).await, (None, true));
    assert!(!ownership(&world, &member).await.1);
}

/// Inserts a user whose address is not confirmed yet, and returns the id.
async fn unconfirmed(world: &World, email: &str) -> Uuid {
    let user = Uuid::now_v7();
    world.db.rows("INSERT INTO auth.users (id, email) VALUES ($1, $2)", &[&user, &email]).await;
    user
}

async fn confirm(world: &World, user: Uuid) {
    world.db.rows("UPDATE auth.users SET email_confirmed_at = now() WHERE id = $1", &[&user]).await;
}

#[stack_test]
async fn credits_are_granted_when_the_address_is_confirmed(world: Arc<World>) {
    let user = unconfirmed(&world, &format!("{}@example.com", Uuid::now_v7().simple())).await;
    let found = user_row(&world, user).await;
    assert_eq!((&found["balance"], &found["plans"]), (&json!(0), &json!(["free active"])));
    for _ in 0..3 {
        confirm(&world, user).await;
        assert_eq!((&user_row(&world, user).await["balance"], &user_row(&world, user).await["entries"]), (&json!(25), &json!(1)));
    }
    let sql = "SELECT l.created_by FROM credit_ledger l JOIN accounts a ON a.id = l.account_id WHERE a.owner_id = $1";
    assert_eq!(world.db.value::<String>(sql, &[&user]).await, Some(format!("user:{user}")));
    // Users without an email confirm a phone number.
    let user = Uuid::now_v7();
    let phone = format!("+49{}", user.as_u128() % 10_000_000_000);
    world.db.rows("INSERT INTO auth.users (id, phone) VALUES ($1, $2)", &[&user, &phone]).await;
    assert_eq!(user_row(&world, user).await["balance"], json!(0));
    world.db.rows("UPDATE auth.users SET phone_confirmed_at = now() WHERE id = $1", &[&user]).await;
    assert_eq!(user_row(&world, user).await["balance"], json!(25));
}

#[stack_test]
async fn an_address_is_granted_credits_once_in_all_its_spellings(world: Arc<World>) {
    let name = Uuid::now_v7().simple().to_string();
    let dotted = format!("{}.{}", &name[..8], &name[8..]);
    for spellings in [
        [format!("{name}@example.com"), format!("{name}+a@example.com"), format!("{}+B@Example.com", name.to_uppercase())],
        [format!("{name}@gmail.com"), format!("{dotted}+news@gmail.com"), format!("{dotted}@GoogleMail.com")],
    ] {
        let mut balances = Vec::new();
        for email in &spellings {
            let user = unconfirmed(&world, email).await;
            confirm(&world, user).await;
            balances.push(user_row(&world, user).await["balance"].clone());
        }
        assert_eq!(balances, [json!(25), json!(0), json!(0)], "{spellings:?}");
    }
    // Elsewhere a dot makes another address, and so does a leading plus.
    for email in [format!("{dotted}@example.com"), format!("+{name}@example.com")] {
        let user = unconfirmed(&world, &email).await;
        confirm(&world, user).await;
        assert_eq!(user_row(&world, user).await["balance"], json!(25), "{email}");
    }
    // Concurrently too.
    let name = Uuid::now_v7().simple().to_string();
    let users = futures::future::join_all((0..8).map(|n| {
        let (world, email) = (world.clone(), format!("{name}+{n}@example.com"));
        async move {
            let user = unconfirmed(&world, &email).await;
            confirm(&world, user).await;
            user
        }
    }))
    .await;
    let mut granted = 0;
    for user in users {
        granted += user_row(&world, user).await["balance"].as_i64().unwrap();
    }
    assert_eq!(granted, 25);
}

/// An address that was given up, by a change or by a deletion, gives no credits to the next user, and an address that was changed none again.
#[stack_test]
async fn a_freed_address_is_granted_no_credits_again(world: Arc<World>) {
    let email = format!("{}@example.com", Uuid::now_v7().simple());
    let first = unconfirmed(&world, &email).await;
    confirm(&world, first).await;
    world.db.rows("UPDATE auth.users SET email = 'moved-' || email WHERE id = $1", &[&first]).await;
    assert_eq!(user_row(&world, first).await["entries"], json!(1));
    let second = unconfirmed(&world, &email).await;
    confirm(&world, second).await;
    assert_eq!((&user_row(&world, second).await["balance"], &user_row(&world, first).await["balance"]), (&json!(0), &json!(25)));
    // Nor monthly credits, as long as the first account lives.
    let renewable = |user: Uuid| {
        let world = world.clone();
        async move {
            let sql = "UPDATE subscriptions s SET current_period_start = now() - interval '40 days', current_period_end = now() - interval '10 days'
                       FROM accounts a WHERE a.id = s.account_id AND a.owner_id = $1";
            let client = world.db.connect().await;
            client.batch_execute("BEGIN").await.unwrap();
            client.execute(sql, &[&user]).await.unwrap();
            let sql = "SELECT count(*) FROM get_renewable_subscriptions() r JOIN accounts a ON a.id = r.account_id WHERE a.owner_id = $1";
            let found: i64 = client.query_one(sql, &[&user]).await.unwrap().get(0);
            client.batch_execute("ROLLBACK").await.unwrap();
            found
        }
    };
    assert_eq!((renewable(first).await, renewable(second).await), (1, 0));
    world.db.rows("UPDATE accounts SET deleted_at = now() WHERE owner_id = $1", &[&first]).await;
    let third = unconfirmed(&world, &email.replace('@', "+third@")).await;
    confirm(&world, third).await;
    assert_eq!(user_row(&world, third).await["balance"], json!(0));
    assert_eq!((renewable(second).await, renewable(third).await), (0, 1));
}
