//! Retention: what is too old or too much goes, oldest first, a bounded step at a time.

use sqlx::Row as _;
use virtflow_state::Text;
use virtflow_types::Timestamp;

use super::{RecordsFile, head_of};
use crate::bulk::{int, unsigned};
use crate::connect::run;
use crate::error::{Doing as _, StoreError};
use crate::options::Retention;

/// Rows that one step removes from one stream, or from history: the writer waits no longer than that.
const STEP_ROWS: u64 = 1000;

impl RecordsFile {
    /// One step. True if there may be more to remove.
    pub(crate) async fn trim(
        &mut self,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let mut more = false;
        for stream in self.heads.keys().cloned().collect::<Vec<_>>() {
            more |= self.trim_stream(&stream, retention, now).await?;
        }
        more |= self.trim_history(retention, now).await?;
        Ok(more)
    }

    async fn trim_stream(
        &mut self,
        stream: &Text,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let doing = || format!("removing old records of `{stream}`");
        let row = sqlx::query("SELECT floor_count, floor_head FROM stream WHERE name = ?")
            .bind(stream.as_str())
            .fetch_one(&mut self.connection)
            .await
            .doing(doing)?;
        let floor = head_of(&row, 0, 1).doing(doing)?;
        let old: Option<i64> =
            sqlx::query("SELECT max(count) FROM record WHERE stream = ? AND at_ms < ?")
                .bind(stream.as_str())
                .bind(before(now, retention.records_age))
                .fetch_one(&mut self.connection)
                .await
                .and_then(|row| row.try_get(0))
                .doing(doing)?;
        let too_many = self.heads[stream]
            .count
            .saturating_sub(retention.records_per_stream_max);
        let target = old.map_or(0, unsigned).max(too_many);
        if target <= floor.count {
            return Ok(false);
        }
        // The new floor is a record that lies here: its head is where verifying starts from then on.
        let row = sqlx::query(
            "SELECT count, head FROM (SELECT count, head FROM record
               WHERE stream = ? AND count > ? AND count <= ? ORDER BY count LIMIT ?)
             ORDER BY count DESC LIMIT 1",
        )
        .bind(stream.as_str())
        .bind(int(floor.count))
        .bind(int(target))
        .bind(int(STEP_ROWS))
        .fetch_optional(&mut self.connection)
        .await
        .doing(doing)?;
        let Some(row) = row else {
            return Ok(false);
        };
        let floor = head_of(&row, 0, 1).doing(doing)?;
        run(&mut self.connection, "BEGIN IMMEDIATE", &self.path).await?;
        for sql in [
            "DELETE FROM record WHERE stream = ? AND count <= ?",
            "DELETE FROM missing WHERE stream = ? AND last <= ?",
        ] {
            sqlx::query(sql)
                .bind(stream.as_str())
                .bind(int(floor.count))
                .execute(&mut self.connection)
                .await
                .doing(doing)?;
        }
        sqlx::query("UPDATE stream SET floor_count = ?, floor_head = ? WHERE name = ?")
            .bind(int(floor.count))
            .bind(floor.head.as_slice())
            .bind(stream.as_str())
            .execute(&mut self.connection)
            .await
            .doing(doing)?;
        run(&mut self.connection, "COMMIT", &self.path).await?;
        Ok(floor.count < target)
    }

    async fn trim_history(
        &mut self,
        retention: &Retention,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let doing = || "removing old history".to_owned();
        // Rows are appended in the order of time, so the oldest have the lowest numbers and what is
        // kept is one stretch.
        let row = sqlx::query("SELECT min(rowid), max(rowid) FROM history")
            .fetch_one(&mut self.connection)
            .await
            .doing(doing)?;
        let (first, last): (Option<i64>, Option<i64>) =
            (row.try_get(0).doing(doing)?, row.try_get(1).doing(doing)?);
        let (Some(first), Some(last)) = (first, last) else {
            return Ok(false);
        };
        let kept = i64::try_from(retention.history_rows_max).unwrap_or(i64::MAX);
        let step_end = first.saturating_add(int(STEP_ROWS));
        let removed =
            sqlx::query("DELETE FROM history WHERE rowid < ?1 AND (rowid <= ?2 OR at_ms < ?3)")
                .bind(step_end)
                .bind(last.saturating_sub(kept))
                .bind(before(now, retention.history_age))
                .execute(&mut self.connection)
                .await
                .doing(doing)?
                .rows_affected();
        sqlx::query(
            "DELETE FROM missing_history WHERE last_index <
               coalesce((SELECT applied_index FROM history ORDER BY rowid LIMIT 1), 0)",
        )
        .execute(&mut self.connection)
        .await
        .doing(doing)?;
        Ok(removed >= STEP_ROWS)
    }
}

fn before(now: Timestamp, age: std::time::Duration) -> i64 {
    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    int(now.ms().saturating_sub(age_ms))
}
