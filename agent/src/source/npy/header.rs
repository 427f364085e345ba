//! The header of an npy file, versions 1 to 3: a dictionary as Python writes it. Pure.
//!
//! # Invariants
//! - Arbitrary bytes are refused with a sentence; nothing is allocated by what they say.

use wavekeep_proto::stream::SampleType;

const MAGIC: &[u8] = b"\x93NUMPY";
/// More axes than numpy has.
const AXES_MAX: usize = 64;

/// What is wrong with an array, in one sentence that says how to convert it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum NpyError {
    #[error("it is no npy file: save it with numpy.save, or say --format raw if it is raw samples")]
    Magic,
    #[error("it is an npy file of version {0}, and this reads 1 to 3: save it again with numpy.save")]
    Version(u8),
    #[error("its header cannot be read: save it again with numpy.save")]
    Header,
    #[error("its elements are {0:?}, which no signal is: save array.astype('<f4'), or '<f8', or '<i4'")]
    Type(String),
    #[error("its elements are big-endian ({0:?}): save array.astype(array.dtype.newbyteorder('<'))")]
    BigEndian(String),
    #[error(
        "it is a record array: save each field as an array of its own, numpy.save('current.npy', array['current'])"
    )]
    Records,
    #[error("it is in Fortran order: save numpy.ascontiguousarray(array)")]
    Fortran,
    #[error("its shape is {0}: an array of one axis is a signal, one of two is (samples, signals); reshape it")]
    Axes(String),
    #[error("its shape is {0}: there are no samples in it")]
    NoSamples(String),
    #[error(
        "its shape is {shape}, and as (samples, signals) that is {signals} signals, more than a stream has: if its rows are signals, save array.T; if they are traces of one signal, say --join-rows"
    )]
    TooWide { shape: String, signals: u64 },
    #[error(
        "its shape is {shape}, (samples, signals), and that is {signal_count} signals where --signal names {named}: name {signal_count}; save array.T if its rows are signals; say --join-rows if they are traces of one signal"
    )]
    Names {
        shape: String,
        signal_count: u64,
        named: u64,
    },
    #[error("its shape is {shape}, and {found} bytes of samples are not that many: copy it again")]
    Length { shape: String, found: u64 },
}

/// What it says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sample_type: SampleType,
    pub(super) is_fortran: bool,
    pub(super) shape: Vec<u64>,
    /// Where the elements begin.
    pub(super) bytes: u64,
}

impl Header {
    /// From the start of a file, which is at least as long as a header may be, or the whole file.
    pub(super) fn parse(start: &[u8]) -> Result<Self, NpyError> {
        let rest = start.strip_prefix(MAGIC).ok_or(NpyError::Magic)?;
        let (length, before) = match rest {
            [1, _, low, high, ..] => (u32::from(u16::from_le_bytes([*low, *high])), 10),
            [2 | 3, _, a, b, c, d, ..] => (u32::from_le_bytes([*a, *b, *c, *d]), 12),
            [version, ..] if !(1..=3).contains(version) => return Err(NpyError::Version(*version)),
            _ => return Err(NpyError::Header),
        };
        let end = before + length as usize;
        let text = start.get(before..end).ok_or(NpyError::Header)?;
        let text = std::str::from_utf8(text).map_err(|_| NpyError::Header)?;
        let mut parser = Parser { rest: text };
        let (descr, is_fortran, shape) = parser.dictionary()?;
        Ok(Self {
            sample_type: sample_type(descr)?,
            is_fortran,
            shape,
            bytes: end as u64,
        })
    }

    /// Bytes of all elements; none if that is absurd.
    pub(super) fn data_bytes(&self) -> Option<u64> {
        let width = self.sample_type.bytes(1);
        self.shape
            .iter()
            .try_fold(width, |bytes, axis| bytes.checked_mul(*axis))
    }

    /// As Python writes it.
    pub(super) fn shape_text(&self) -> String {
        let axes: Vec<_> = self.shape.iter().map(u64::to_string).collect();
        match &axes[..] {
            [one] => format!("({one},)"),
            axes => format!("({})", axes.join(", ")),
        }
    }
}

fn sample_type(descr: &str) -> Result<SampleType, NpyError> {
    let native = if cfg!(target_endian = "little") { '<' } else { '>' };
    let mut characters = descr.chars();
    let order = match characters.next() {
        Some('=') => native,
        Some(order) => order,
        None => return Err(NpyError::Type(descr.into())),
    };
    let sample_type = match characters.as_str() {
        "f4" => SampleType::F32,
        "f8" => SampleType::F64,
        "i1" => SampleType::I8,
        "i2" => SampleType::I16,
        "i4" => SampleType::I32,
        "i8" => SampleType::I64,
        // A bool is a byte of 0 or 1.
        "u1" | "b1" => SampleType::U8,
        "u2" => SampleType::U16,
        "u4" => SampleType::U32,
        "u8" => SampleType::U64,
        _ => return Err(NpyError::Type(descr.into())),
    };
    match order {
        '<' => Ok(sample_type),
        _ if sample_type.bits() == 8 => Ok(sample_type),
        '>' => Err(NpyError::BigEndian(descr.into())),
        _ => Err(NpyError::Type(descr.into())),
    }
}

/// Reads what Python's `repr` writes of such a dictionary.
struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn skip(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<(), NpyError> {
        if self.skip(token) {
            Ok(())
        } else {
            Err(NpyError::Header)
        }
    }

    fn string(&mut self) -> Result<&'a str, NpyError> {
        let quote = ["'", "\""].into_iter().find(|quote| self.skip(quote));
        let (text, rest) = self
            .rest
            .split_once(quote.ok_or(NpyError::Header)?)
            .ok_or(NpyError::Header)?;
        self.rest = rest;
        Ok(text)
    }

    fn number(&mut self) -> Result<u64, NpyError> {
        self.rest = self.rest.trim_start();
        let digits = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(digits);
        // Python 2 wrote 3L.
        self.rest = rest.strip_prefix('L').unwrap_or(rest);
        number.parse().map_err(|_| NpyError::Header)
    }

    fn shape(&mut self) -> Result<Vec<u64>, NpyError> {
        self.expect("(")?;
        let mut shape = Vec::new();
        while !self.skip(")") {
            if shape.len() == AXES_MAX {
                return Err(NpyError::Header);
            }
            shape.push(self.number()?);
            if !self.skip(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }

    fn dictionary(&mut self) -> Result<(&'a str, bool, Vec<u64>), NpyError> {
        let (mut descr, mut is_fortran, mut shape) = (None, None, None);
        self.expect("{")?;
        while !self.skip("}") {
            let key = self.string()?;
            self.expect(":")?;
            match key {
                "descr" if self.skip("[") => return Err(NpyError::Records),
                "descr" => descr = Some(self.string()?),
                "fortran_order" if self.skip("True") => is_fortran = Some(true),
                "fortran_order" if self.skip("False") => is_fortran = Some(false),
                "shape" => shape = Some(self.shape()?),
                _ => return Err(NpyError::Header),
            }
            if !self.skip(",") {
                self.expect("}")?;
                break;
            }
        }
        match (descr, is_fortran, shape) {
            (Some(descr), Some(is_fortran), Some(shape)) => Ok((descr, is_fortran, shape)),
            _ => Err(NpyError::Header),
        }
    }
}
