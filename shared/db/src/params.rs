//! Parameters of statements: each value with the SQL type it is sent as.
//!
//! A statement that names its parameters' types is sent without a preceding request for them, which saves a round trip and works behind a
//! pooler in transaction mode.

use std::time::Duration;

use jiff::Timestamp;
use oslira_domain::{AccountId, BatchId, BusinessProfileId, FailureCode, LeadId, RunId, Tier, TransactionType, Username};
use serde::Serialize;
use tokio_postgres::types::{Json, ToSql, Type};
use uuid::Uuid;

use crate::session::Param;

/// A value that statements take.
pub(crate) trait Parameter {
    /// What the driver sends.
    type Sql: ToSql + Sync;
    /// The type it is sent as.
    const TYPE: Type;

    fn into_sql(self) -> Self::Sql;
}

/// Converts a value to what is sent.
pub(crate) fn bind<T: Parameter>(value: T) -> (T::Sql, Type) {
    (value.into_sql(), T::TYPE)
}

/// Refers to a converted value as [`Param`].
pub(crate) fn param<T: ToSql + Sync>(bound: &(T, Type)) -> Param<'_> {
    (&bound.0, bound.1.clone())
}

/// The parameters of a statement, in order. Only for use inside of the call that takes them: the converted values live as long as it does.
macro_rules! params {
    ($($value:expr),* $(,)?) => { [$($crate::params::param(&$crate::params::bind($value))),*] };
}
pub(crate) use params;

/// Implements [`Parameter`] for types: `impl<lifetime> type as SQL type => what is sent`.
macro_rules! parameter {
    ($(impl<$($life:lifetime)?> $type:ty as $sql:ident: $sent:ty => |$value:ident| $convert:expr;)*) => {$(
        impl<$($life)?> Parameter for $type {
            type Sql = $sent;
            const TYPE: Type = Type::$sql;

            fn into_sql(self) -> $sent {
                let $value = self;
                $convert
            }
        }
    )*};
}

parameter! {
    impl<> bool as BOOL: bool => |value| value;
    impl<> i64 as INT8: i64 => |value| value;
    impl<> Uuid as UUID: Uuid => |id| id;
    impl<> Timestamp as TIMESTAMPTZ: Timestamp => |moment| moment;
    impl<> AccountId as UUID: Uuid => |id| id.0;
    impl<> BusinessProfileId as UUID: Uuid => |id| id.0;
    impl<> LeadId as UUID: Uuid => |id| id.0;
    // Limits: a statement's are `integer`, and none is near its bound.
    impl<> u32 as INT4: i32 => |limit| i32::try_from(limit).unwrap_or(i32::MAX);
    impl<> Tier as TEXT: &'static str => |tier| tier.as_str();
    impl<> TransactionType as TEXT: &'static str => |kind| kind.as_str();
    impl<> FailureCode as TEXT: &'static str => |code| code.as_str();
    impl<'a> &'a str as TEXT: &'a str => |text| text;
    impl<'a> &'a RunId as TEXT: &'a str => |id| id.as_str();
    impl<'a> &'a BatchId as TEXT: &'a str => |id| id.as_str();
    impl<'a> &'a Username as TEXT: &'a str => |username| username.as_str();
    impl<'a> &'a [RunId] as TEXT_ARRAY: Vec<&'a str> => |ids| ids.iter().map(RunId::as_str).collect();
    // Whole seconds.
    impl<'a> &'a [Duration] as INT8_ARRAY: Vec<i64> => |times| times.iter().map(|time| i64::try_from(time.as_secs()).unwrap_or(i64::MAX)).collect();
    impl<'a> &'a [Username] as TEXT_ARRAY: Vec<&'a str> => |usernames| usernames.iter().map(Username::as_str).collect();
}

impl<T: Serialize + std::fmt::Debug + Sync> Parameter for Json<T> {
    type Sql = Self;
    const TYPE: Type = Type::JSONB;

    fn into_sql(self) -> Self {
        self
    }
}

impl<T: Parameter> Parameter for Option<T> {
    type Sql = Option<T::Sql>;
    const TYPE: Type = T::TYPE;

    fn into_sql(self) -> Option<T::Sql> {
        self.map(T::into_sql)
    }
}
