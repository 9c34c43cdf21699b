//! Parts of lists: what comes after a place, and no more than is wanted.

use rateguard_engine::listing::{OrderValue, PageQuery, SequenceQuery};

use super::builder::QueryBuilder;

/// Continues a query of rows of one list with the part that is asked for. `column` is what the list is ordered by
/// before the `id`.
pub(crate) fn push_page(query: &mut QueryBuilder, column: Option<&'static str>, page: &PageQuery) {
    let (beyond, direction) = if page.order.descending { ("<", "DESC") } else { (">", "ASC") };
    let value = page.after.as_ref().map(|place| (&place.value, &place.id));
    match (column, value) {
        (_, None) => {}
        (Some(column), Some((OrderValue::At(at), id))) => {
            query.push(format_args!(" AND ({column}, id) {beyond} (")).push_bind(at.get());
            query.push(", ").push_bind(id.clone()).push(")");
        }
        (Some(column), Some((OrderValue::Text(text), id))) => {
            query.push(format_args!(" AND ({column}, id) {beyond} (")).push_bind(text.clone());
            query.push(", ").push_bind(id.clone()).push(")");
        }
        (None, Some((_, id))) | (Some(_), Some((OrderValue::Nothing, id))) => {
            query.push(format_args!(" AND id {beyond} ")).push_bind(id.clone());
        }
    }
    query.push(" ORDER BY ");
    if let Some(column) = column {
        query.push(format_args!("{column} {direction}, "));
    }
    query.push(format_args!("id {direction} LIMIT ")).push_bind(row_limit(page.limit));
}

/// The same for rows that have a `sequence`.
pub(crate) fn push_part(query: &mut QueryBuilder, part: &SequenceQuery) {
    let (beyond, direction) = if part.oldest_first { (">", "ASC") } else { ("<", "DESC") };
    if let Some(after) = part.after {
        // One beyond the column's range equals none there.
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        query.push(format_args!(" AND sequence {beyond} ")).push_bind(after);
    }
    query.push(format_args!(" ORDER BY sequence {direction} LIMIT ")).push_bind(row_limit(part.limit));
}

fn row_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
