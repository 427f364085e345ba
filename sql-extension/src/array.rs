//! Arrays of Postgres, made in one piece: element by element, as `construct_array` takes them, costs more than decoding.

use pgrx::pg_sys;

/// What stands before the elements of one dimension: the header, its length and its lower bound. A multiple of 8.
const HEADER_BYTES: usize = size_of::<pg_sys::ArrayType>() + 2 * size_of::<i32>();
const _: () = assert!(HEADER_BYTES.is_multiple_of(8));

/// An array of so many double precision numbers, which are 0 until `fill` sets them. In the current memory context.
pub(crate) fn array(count: usize, fill: impl FnOnce(&mut [f64])) -> pg_sys::Datum {
    if count == 0 {
        // SAFETY: it allocates and returns.
        return unsafe { pg_sys::construct_empty_array(pg_sys::FLOAT8OID) }.into();
    }
    let bytes = HEADER_BYTES + count * size_of::<f64>();
    let length = i32::try_from(count).expect("I12: a chunk's samples");
    // SAFETY: palloc0 gives so many bytes, aligned to 8, or does not return. The header is as `ARR_OVERHEAD_NONULLS(1)` counts it: one
    // dimension, no bitmap of NULLs, the elements right after it, which is aligned for them. Postgres has double precision
    // by value as f64 is, and zeros are numbers.
    unsafe {
        let array = pg_sys::palloc0(bytes).cast::<pg_sys::ArrayType>();
        pgrx::set_varsize_4b(array.cast(), i32::try_from(bytes).expect("I12: less than a MiB"));
        (*array).ndim = 1;
        (*array).dataoffset = 0;
        (*array).elemtype = pg_sys::FLOAT8OID;
        let dimension = array.add(1).cast::<i32>();
        dimension.write(length);
        dimension.add(1).write(1);
        let elements = array.cast::<u8>().add(HEADER_BYTES).cast::<f64>();
        fill(std::slice::from_raw_parts_mut(elements, count));
        array.into()
    }
}
