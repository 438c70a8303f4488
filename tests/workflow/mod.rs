//! Every state of the state machine that runs a function, in every tier: delivered twice, at once and too late, killed before, while and
//! after its statements run, killed between two answers, killed while a vendor works for it, and with vendors that fail in every way they know.
//! In each case the run ends, it is charged once with a result or not at all, and nothing is left over.
//!
//! The states come from `infra/analysis.asl.json`, their vendors from the calls that a state is seen to make. A new state is covered as soon as
//! one of the scenarios below reaches it, and the tests fail until one does.

mod faults;
mod machine;
mod scenario;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::harness::{World, json, stack_test};
use faults::{Fault, Vendor};
use machine::Machine;
use oslira_domain::Tier;
use scenario::{Scenario, vendors_of};

#[stack_test]
async fn every_successful_run_takes_four_transitions(world: Arc<World>) {
    let account = world.account(30).await;
    for tier in Tier::ALL {
        let handle = world.handle("counted");
        // Fetched, then cached.
        for starts in [1, 1] {
            let ended = account.run(&handle, tier.as_str()).await;
            assert_eq!(ended.status(), "completed", "{}", ended.progress);
            world.execution_ended(&ended.run_id).await;
            assert_eq!(world.states_entered(&ended.run_id).await, ["Admit", "Fetch", "Analyze", "Save"], "{tier}");
            assert_eq!(world.calls("apify", &handle).await.iter().filter(|call| call["op"] == "start").count(), starts, "{tier}");
        }
    }
}

#[stack_test]
async fn every_state_is_reached_by_a_scenario(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    let mut missing: BTreeSet<_> = machine.tasks().into_iter().collect();
    for scenario in Scenario::ALL {
        for delivery in scenario.start(&world, Tier::Light).await.walk(&machine).await.walk.deliveries {
            missing.remove(&delivery.task);
        }
    }
    assert!(missing.is_empty(), "no scenario reaches {missing:?}: add one to tests/workflow/scenario.rs");
}

#[stack_test]
async fn every_state_may_be_delivered_twice_at_once_and_late(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    for tier in Tier::ALL {
        let scenarios = Scenario::of_every_task(&world, &machine, tier).await;
        for fault in [Fault::Twice, Fault::AtOnce] {
            // They do not disturb each other: each scenario has a handle of its own.
            futures::future::join_all(scenarios.iter().map(async |(task, scenario)| {
                let ended = scenario.start(&world, tier).await.walk_with(&machine, task, &fault).await;
                ended.assert_settled(&format!("{tier} {} {fault:?}", task.state)).await;
                ended.assert_late_deliveries_change_nothing().await;
            }))
            .await;
        }
    }
}

/// The tiers in which a task that calls these vendors does different things: the questions to models are the tier's.
fn tiers_of(vendors: &[Vendor]) -> &'static [Tier] {
    if vendors.iter().any(Vendor::is_model) { &Tier::ALL } else { &Tier::ALL[..1] }
}

#[stack_test]
async fn every_vendor_may_fail_at_every_state(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    for (task, scenario) in Scenario::of_every_task(&world, &machine, Tier::Light).await {
        for tier in tiers_of(&vendors_of(&world, &machine, &task, scenario, Tier::Light).await) {
            for vendor in vendors_of(&world, &machine, &task, scenario, *tier).await {
                let faults = faults::of_vendor(vendor.name);
                futures::future::join_all(faults.iter().map(async |fault| {
                    for times in [Some(1), None] {
                        let what = format!("{tier} {} {vendor:?} {fault} {times:?}", task.state);
                        let started = scenario.start(&world, *tier).await;
                        for failing in &vendor.behind {
                            world.fault(failing, &started.handle, None, json!({ "kind": "disconnect" })).await;
                        }
                        world.fault(vendor.name, &started.handle, times, fault.clone()).await;
                        let ended = started.walk(&machine).await;
                        ended.assert_settled(&what).await;
                        ended.assert_costs_are_recorded(&what).await;
                    }
                }))
                .await;
            }
        }
    }
}

#[stack_test(alone)]
async fn every_state_may_be_killed(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    for (task, scenario) in Scenario::of_every_task(&world, &machine, Tier::Light).await {
        for tier in tiers_of(&vendors_of(&world, &machine, &task, scenario, Tier::Light).await) {
            let vendors = vendors_of(&world, &machine, &task, scenario, *tier).await;
            let mut faults = vec![Fault::KilledBefore, Fault::KilledWhile, Fault::KilledAfter];
            if vendors.iter().any(Vendor::is_model) && tier.calls().len() > 1 {
                faults.push(Fault::KilledBetweenAnswers);
            }
            faults.extend(vendors.into_iter().map(Fault::KilledWhileVendorWorks));
            for fault in faults {
                let what = format!("{tier} {} {fault:?}", task.state);
                let ended = scenario.start(&world, *tier).await.walk_with(&machine, &task, &fault).await;
                ended.assert_settled(&what).await;
                if matches!(fault, Fault::KilledBetweenAnswers) {
                    ended.assert_only_open_questions_are_asked_again(&what).await;
                }
            }
        }
    }
}
