//! Table `run`: a row for every run that a stream was ever opened for, or that somebody made; and `run_member`, what was made part of it
//! afterwards.

use sqlx::Row;
use sqlx::postgres::PgConnection;

use super::error::StoreError;
use super::read_run::{MemberOf, RunMember, RunRow};
use super::statement;
use super::text::{clean, json_object};
use super::transaction::within_limit;

/// Whoever changes runs waits here for others who do, until they have committed.
pub(crate) async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    let sql = "SELECT pg_advisory_xact_lock(hashtextextended('wavekeep runs of ' || current_schema(), 0))";
    within_limit(statement(sql).execute(connection)).await?;
    Ok(())
}

/// Whoever opens a stream for a run keeps it from being deleted until the stream is there.
const INSERT: &str = "
WITH kept AS (SELECT name FROM run WHERE name = $1 FOR KEY SHARE)
INSERT INTO run (name) SELECT $1 WHERE NOT EXISTS (SELECT FROM kept) ON CONFLICT (name) DO NOTHING";

/// Adds it if it is new. Was it?
pub(crate) async fn insert(connection: &mut PgConnection, name: &str) -> Result<bool, StoreError> {
    let query = statement(INSERT).bind(clean(name).into_owned());
    let done = within_limit(query.execute(connection)).await?;
    Ok(done.rows_affected() > 0)
}

/// Waits for those who open streams for it. What is read of it from here on stays so.
pub(crate) async fn hold(connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    let query = statement("SELECT FROM run WHERE name = $1 FOR UPDATE").bind(name);
    within_limit(query.execute(connection)).await?;
    Ok(())
}

const IS_PART_OF: &str = "
WITH RECURSIVE above(name, parent) AS (
    SELECT name, parent FROM run WHERE name = $1
    UNION
    SELECT r.name, r.parent FROM run r JOIN above ON r.name = above.parent)
SELECT EXISTS (SELECT FROM above WHERE name = $2)";

/// Is a run the other one, or a part of it at any depth?
pub(crate) async fn is_part_of(connection: &mut PgConnection, name: &str, other: &str) -> Result<bool, StoreError> {
    let query = statement(IS_PART_OF).bind(name).bind(other);
    Ok(within_limit(query.fetch_one(connection)).await?.try_get(0)?)
}

const UPDATE: &str =
    "UPDATE run SET labels = $2::text::jsonb, parent = $3, note = $4, updated_at = clock_timestamp() WHERE name = $1";

const REMOVE: &str = "
DELETE FROM run_member m USING unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) AS t(device, stream_id, from_ns, to_ns)
 WHERE m.run = $1 AND m.device IS NOT DISTINCT FROM t.device AND m.stream_id IS NOT DISTINCT FROM t.stream_id
   AND m.from_ns IS NOT DISTINCT FROM t.from_ns AND m.to_ns IS NOT DISTINCT FROM t.to_ns";

const ADD: &str = "
INSERT INTO run_member (run, device, stream_id, from_ns, to_ns)
SELECT $1, t.device, t.stream_id, t.from_ns, t.to_ns
  FROM unnest($2::text[], $3::bytea[], $4::bigint[], $5::bigint[]) AS t(device, stream_id, from_ns, to_ns)
ON CONFLICT DO NOTHING";

/// Makes of one the other, which differs from it.
pub(crate) async fn write(connection: &mut PgConnection, before: &RunRow, after: &RunRow) -> Result<(), StoreError> {
    let query = statement(UPDATE)
        .bind(&after.name)
        .bind(json_object(&after.labels))
        .bind(after.parent.as_deref())
        .bind(after.note.as_str());
    within_limit(query.execute(&mut *connection)).await?;
    let gone = before.members.iter().filter(|member| !after.members.contains(member));
    let new = after.members.iter().filter(|member| !before.members.contains(member));
    members(connection, REMOVE, &after.name, gone.collect()).await?;
    members(connection, ADD, &after.name, new.collect()).await
}

async fn members(
    connection: &mut PgConnection,
    sql: &'static str,
    name: &str,
    members: Vec<&RunMember>,
) -> Result<(), StoreError> {
    if members.is_empty() {
        return Ok(());
    }
    let device = |member: &&RunMember| match &member.of {
        MemberOf::Device(device) => Some(device.clone()),
        MemberOf::Stream(_) => None,
    };
    let stream = |member: &&RunMember| match &member.of {
        MemberOf::Device(_) => None,
        MemberOf::Stream(id) => Some(id.to_vec()),
    };
    let query = statement(sql)
        .bind(name)
        .bind(members.iter().map(device).collect::<Vec<_>>())
        .bind(members.iter().map(stream).collect::<Vec<_>>())
        .bind(members.iter().map(|member| member.from_ns).collect::<Vec<_>>())
        .bind(members.iter().map(|member| member.to_ns).collect::<Vec<_>>());
    within_limit(query.execute(connection)).await?;
    Ok(())
}

/// Deletes it, with what was made part of it. Runs that are parts of it have no parent then.
pub(crate) async fn delete(connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    within_limit(
        statement("DELETE FROM run WHERE name = $1")
            .bind(name)
            .execute(connection),
    )
    .await?;
    Ok(())
}
