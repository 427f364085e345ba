//! A `timestamptz` as the database has it, for bounds of partitions.
//!
//! Bounds are bound as constants, never computed by the statement: `timestamptz + interval` depends on the session's time zone,
//! so the planner would not evaluate it, and would open and lock every partition there is.

use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};

/// 2000-01-01T00:00:00Z, from which Postgres counts, in Unix microseconds.
const POSTGRES_EPOCH_US: i64 = 946_684_800_000_000;
/// For what arithmetic rounds.
const SLACK_US: i64 = 1_000_000;
/// Of the type, in every Postgres.
const TIMESTAMPTZ: Oid = Oid(1184);

/// Microseconds since 2000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timestamp(i64);

impl Timestamp {
    /// Rounded down to the microsecond. Unix nanoseconds in 64 bits end long before the calendar of Postgres does.
    pub(super) const fn of_ns(utc_ns: i64) -> Self {
        Self::of_us(utc_ns.div_euclid(1_000))
    }

    /// Of Unix microseconds.
    pub(super) const fn of_us(utc_us: i64) -> Self {
        Self(utc_us - POSTGRES_EPOCH_US)
    }

    /// As it is sent.
    pub(super) const fn number(self) -> i64 {
        self.0
    }

    /// Between which all chunks of a stream start, by its earliest start and latest end.
    pub(super) const fn bounds(times_ns: (i64, i64)) -> (Self, Self) {
        let (first, last) = (Self::of_ns(times_ns.0), Self::of_ns(times_ns.1));
        (Self(first.0 - SLACK_US), Self(last.0 + SLACK_US))
    }
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(TIMESTAMPTZ)
    }
}

impl Encode<'_, Postgres> for Timestamp {
    fn encode_by_ref(&self, to: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode(self.0, to)
    }
}
