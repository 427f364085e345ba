//! What SQL calls. Every function is strict, immutable and sees its arguments alone; wavekeep--1.0.sql says what they are for.

use pgrx::pg_sys::{Datum, FunctionCallInfo, Pg_finfo_record};
use pgrx::{FromDatum, IntoDatum, pg_getarg, pg_guard};

use crate::array::array;
use crate::axis::{self, Axis};
use crate::column::{Column, with_samples};
use crate::error::Error;

/// Makes a Rust function one that Postgres calls: `name(arguments) -> Result<Datum, Error>`.
macro_rules! sql_function {
    ($name:ident, $finfo:ident, $body:path) => {
        #[doc(hidden)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $finfo() -> &'static Pg_finfo_record {
            const V1: Pg_finfo_record = Pg_finfo_record { api_version: 1 };
            &V1
        }

        #[doc(hidden)]
        #[pg_guard]
        #[unsafe(no_mangle)]
        pub unsafe extern "C-unwind" fn $name(call: FunctionCallInfo) -> Datum {
            // SAFETY: Postgres calls it with the arguments that wavekeep--1.0.sql declares.
            $body(&unsafe { Arguments::new(call) }).unwrap_or_else(|error| error.raise())
        }
    };
}

sql_function!(wavekeep_place, pg_finfo_wavekeep_place, place);
sql_function!(wavekeep_time, pg_finfo_wavekeep_time, time);
sql_function!(wavekeep_time_ns, pg_finfo_wavekeep_time_ns, time_ns);
sql_function!(wavekeep_values, pg_finfo_wavekeep_values, values);
sql_function!(wavekeep_digits, pg_finfo_wavekeep_digits, digits);

/// Of one call.
struct Arguments(FunctionCallInfo);

impl Arguments {
    /// # Safety
    /// Postgres calls a strict function with the arguments that are then read, by number and type.
    const unsafe fn new(call: FunctionCallInfo) -> Self {
        Self(call)
    }

    fn get<T: FromDatum>(&self, number: usize) -> T {
        // SAFETY: see `new`.
        let argument = unsafe { pg_getarg(self.0, number) };
        argument.expect("a strict function is not called with NULL")
    }

    /// utc_ns, rate_hz
    fn axis(&self) -> Result<Axis, Error> {
        Axis::new(self.get(0), self.get(1))
    }

    /// signal, sample_type, encoding, count, hash, payload
    fn column(&self) -> Column<'_> {
        Column {
            signal: self.get(0),
            sample_type: self.get(1),
            encoding: self.get(2),
            count: self.get(3),
            hash: self.get(4),
            payload: self.get(5),
        }
    }
}

/// (utc_ns, rate_hz, count, time_ns) → integer
fn place(arguments: &Arguments) -> Result<Datum, Error> {
    let count = axis::count(arguments.get(2))?;
    let place = arguments.axis()?.place_at(count, arguments.get(3));
    Ok(Datum::from(place))
}

/// (utc_ns, rate_hz, place) → timestamptz
fn time(arguments: &Arguments) -> Result<Datum, Error> {
    Ok(Datum::from(arguments.axis()?.time_us(axis::place(arguments.get(2))?)))
}

/// (utc_ns, rate_hz, place) → bigint
fn time_ns(arguments: &Arguments) -> Result<Datum, Error> {
    Ok(Datum::from(arguments.axis()?.time_ns(axis::place(arguments.get(2))?)))
}

/// (signal, sample_type, encoding, count, hash, payload, from_place, to_place) → float8[]
fn values(arguments: &Arguments) -> Result<Datum, Error> {
    let places = axis::places(arguments.get(6), arguments.get(7))?;
    with_samples(arguments.column(), |samples| {
        let places = samples.within(&places);
        array(places.len(), |out| samples.to_f64(places, out))
    })
}

/// (signal, sample_type, encoding, count, hash, payload, from_place, to_place) → text[]
fn digits(arguments: &Arguments) -> Result<Datum, Error> {
    let places = axis::places(arguments.get(6), arguments.get(7))?;
    let digits = with_samples(arguments.column(), |samples| samples.digits(samples.within(&places)))?;
    Ok(digits.into_datum().expect("an array is not NULL"))
}
