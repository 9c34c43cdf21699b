//! Tables that are cut by the month in PostgreSQL, so that a month that nobody keeps any more is
//! dropped at once. SQLite has them whole.

use std::collections::BTreeSet;

use rateguard_core::time::{CalendarPeriod, Millis, Zone};
use sqlx::{AssertSqlSafe, Error};

use super::connection::{Connection, Kind};
use super::query::query;

/// Makes the parts of tables that rows of these instants go into, where they are not there yet. The
/// transaction has to have the store's place for writers.
pub(crate) async fn make_months(
    connection: &mut Connection,
    tables: &[&'static str],
    instants: impl Iterator<Item = Millis> + Send,
) -> Result<(), Error> {
    if connection.kind() == Kind::Sqlite {
        return Ok(());
    }
    let months: BTreeSet<i64> =
        instants.map(|at| CalendarPeriod::Month.bounds(&Zone::UTC, at).start.get()).collect();
    let calls: Vec<String> = tables.iter().map(|table| format!("make_month('{table}', $1)")).collect();
    let sql = format!("SELECT {}", calls.join(", "));
    for month in months {
        query(AssertSqlSafe(sql.clone())).bind(month).execute(connection).await?;
    }
    Ok(())
}
