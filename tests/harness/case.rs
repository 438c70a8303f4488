//! A test as data: its name, whether it needs the stack to itself, and what it does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::World;

/// A test under way.
pub type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub alone: bool,
    pub run: fn(Arc<World>) -> Running,
}

/// The cases of a module: `cases!(shared: a, b; alone: c)`.
#[macro_export]
macro_rules! cases {
    (shared: $($shared:ident),* $(,)?; alone: $($alone:ident),* $(,)?) => {
        pub fn cases() -> Vec<$crate::harness::Case> {
            vec![
                $($crate::harness::Case { name: concat!(module_path!(), "::", stringify!($shared)), alone: false, run: |world| Box::pin($shared(world)) },)*
                $($crate::harness::Case { name: concat!(module_path!(), "::", stringify!($alone)), alone: true, run: |world| Box::pin($alone(world)) },)*
            ]
        }
    };
}
pub use cases;
