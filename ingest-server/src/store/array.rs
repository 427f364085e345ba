//! Arrays of numbers from the database's binary form, without a detour: a page of points has a hundred thousand of them.

use sqlx::Row;
use sqlx::ValueRef;
use sqlx::postgres::PgRow;

use super::error::StoreError;

/// The elements of a one-dimensional array, each of N bytes or NULL; None for a NULL array.
fn elements<const N: usize>(row: &PgRow, column: &'static str) -> Result<Option<Vec<Option<[u8; N]>>>, StoreError> {
    let unexpected = || StoreError::Unexpected(column);
    let value = row.try_get_raw(column)?;
    if value.is_null() {
        return Ok(None);
    }
    let bytes = value.as_bytes().map_err(|_| unexpected())?;
    let word = |at: usize| {
        let word = bytes.get(at..at + 4).ok_or_else(unexpected)?;
        Ok::<_, StoreError>(i32::from_be_bytes(word.try_into().map_err(|_| unexpected())?))
    };
    if word(0)? == 0 {
        return Ok(Some(Vec::new()));
    }
    let count = usize::try_from(word(12)?).map_err(|_| unexpected())?;
    if word(0)? != 1 || count > bytes.len() / 4 {
        return Err(unexpected());
    }
    let (mut at, mut elements) = (20, Vec::with_capacity(count));
    for _ in 0..count {
        let length = word(at)?;
        at += 4;
        if length == -1 {
            elements.push(None);
            continue;
        }
        let element = bytes
            .get(at..at + N)
            .filter(|_| length as usize == N)
            .ok_or_else(unexpected)?;
        elements.push(Some(element.try_into().map_err(|_| unexpected())?));
        at += N;
    }
    Ok(Some(elements))
}

/// Of double precision[].
pub(super) fn f64s(row: &PgRow, column: &'static str) -> Result<Option<Vec<Option<f64>>>, StoreError> {
    let elements = elements::<8>(row, column)?;
    let f64_of = |element: Option<[u8; 8]>| element.map(f64::from_be_bytes);
    Ok(elements.map(|elements| elements.into_iter().map(f64_of).collect()))
}

/// Of integer[] without NULLs, none of them negative.
pub(super) fn counts(row: &PgRow, column: &'static str) -> Result<Option<Vec<u64>>, StoreError> {
    let elements = elements::<4>(row, column)?;
    let count = |element: Option<[u8; 4]>| element.and_then(|bytes| u64::try_from(i32::from_be_bytes(bytes)).ok());
    all(elements, count, column)
}

fn all<const N: usize>(
    elements: Option<Vec<Option<[u8; N]>>>,
    count: impl Fn(Option<[u8; N]>) -> Option<u64>,
    column: &'static str,
) -> Result<Option<Vec<u64>>, StoreError> {
    let counts = elements.map(|elements| elements.into_iter().map(count).collect::<Option<Vec<_>>>());
    counts
        .map(|counts| counts.ok_or(StoreError::Unexpected(column)))
        .transpose()
}
