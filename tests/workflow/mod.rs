//! Every state of the state machine that runs a function, in every tier: delivered twice, at once and too late, killed before, while and
//! after its statements run, killed while a vendor works for it, and with vendors that fail in every way they know. Whatever happens, the
//! run ends, it is charged once with a result or not at all, and nothing is left over.
//!
//! The states come from `infra/analysis.asl.json`, their vendors from what a state is seen to call. A new state is covered as soon as one
//! of the stories below reaches it, and the tests fail until one does.

mod faults;
mod machine;
mod story;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::harness::{World, json, stack_test};
use faults::Fault;
use machine::{Machine, Task};
use story::{Story, TIERS, vendors_of};

#[stack_test]
async fn every_state_is_reached_by_a_story(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    let mut left: BTreeSet<_> = machine.tasks().into_iter().collect();
    for story in Story::ALL {
        for visited in story.begin(&world, "light").await.told(&machine).await.walk.delivered {
            left.remove(&visited.task);
        }
    }
    assert!(left.is_empty(), "no story reaches {left:?}: add one to tests/workflow/story.rs");
}

#[stack_test]
async fn every_state_may_be_delivered_twice_at_once_and_late(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    for tier in TIERS {
        let stories = Story::of_every_task(&world, &machine, tier).await;
        for fault in [Fault::Twice, Fault::AtOnce] {
            // Nobody is in anybody's way: each story is about a handle of its own.
            futures::future::join_all(stories.iter().map(async |(task, story)| {
                let told = story.begin(&world, tier).await.told_with(&machine, task, &fault).await;
                told.assert_settled(&format!("{tier} {} {fault:?}", task.state)).await;
                told.assert_late_deliveries_change_nothing().await;
            }))
            .await;
        }
    }
}

/// The tiers in which a task does different things: a Map's items are the tier's.
fn tiers_of(task: &Task) -> &'static [&'static str] {
    if task.mapped { &TIERS } else { &TIERS[..1] }
}

#[stack_test]
async fn every_vendor_may_fail_at_every_state(world: Arc<World>) {
    let machine = Machine::deployed(&world).await;
    for (task, story) in Story::of_every_task(&world, &machine, "light").await {
        for tier in tiers_of(&task) {
            for vendor in vendors_of(&world, &machine, &task, story, tier).await {
                let faults = faults::of_vendor(vendor.name);
                futures::future::join_all(faults.iter().map(async |fault| {
                    for times in [Some(1), None] {
                        let what = format!("{tier} {} {vendor:?} {fault} {times:?}", task.state);
                        let begun = story.begin(&world, tier).await;
                        for failing in &vendor.behind {
                            world.fault(failing, &begun.handle, None, json!({ "kind": "disconnect" })).await;
                        }
                        world.fault(vendor.name, &begun.handle, times, fault.clone()).await;
                        let told = begun.told(&machine).await;
                        told.assert_settled(&what).await;
                        told.assert_costs_are_booked(&what).await;
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
    for (task, story) in Story::of_every_task(&world, &machine, "light").await {
        for tier in tiers_of(&task) {
            let mut faults = vec![Fault::KilledBefore, Fault::KilledWhile, Fault::KilledAfter];
            let vendors = vendors_of(&world, &machine, &task, story, tier).await;
            faults.extend(vendors.into_iter().map(Fault::KilledWhileVendorWorks));
            for fault in faults {
                let told = story.begin(&world, tier).await.told_with(&machine, &task, &fault).await;
                told.assert_settled(&format!("{tier} {} {fault:?}", task.state)).await;
            }
        }
    }
}
