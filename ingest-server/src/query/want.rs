//! What is wanted of a stream: its signals, and what is derived of them. Pure.

use wavekeep_proto::power::{POWER_NAME, POWER_NUMBER, POWER_UNIT, power_of};
use wavekeep_proto::stream::StreamDefinition;

use super::plan::Asked;

/// See the module's documentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// The signal at this place.
    Stored(usize),
    /// Current and voltage, multiplied.
    Power(usize, usize),
}

impl Want {
    /// All that is asked for. `derived`: also what is not named, where no signal is.
    pub(super) fn all(asked: &Asked, definition: &StreamDefinition, derived: bool) -> Vec<Self> {
        let stored = asked.places(definition).into_iter().map(Self::Stored);
        let unnamed = derived && asked.signals.is_empty();
        let power = power_of(definition).filter(|_| unnamed || asked.signals.iter().any(|name| name == POWER_NAME));
        stored
            .chain(power.map(|(current, voltage)| Self::Power(current, voltage)))
            .collect()
    }

    /// The signals that it is made of.
    pub(super) fn places(self) -> Vec<usize> {
        match self {
            Self::Stored(place) => vec![place],
            Self::Power(current, voltage) => vec![current, voltage],
        }
    }

    /// Its number in the tables of folds.
    pub(super) fn number(self, definition: &StreamDefinition) -> u32 {
        match self {
            Self::Stored(place) => definition.signals[place].number.into(),
            Self::Power(..) => POWER_NUMBER,
        }
    }

    /// Its name and its unit.
    pub(super) fn name_and_unit(self, definition: &StreamDefinition) -> (&str, &str) {
        match self {
            Self::Stored(place) => (&definition.signals[place].name, &definition.signals[place].unit),
            Self::Power(..) => (POWER_NAME, POWER_UNIT),
        }
    }
}

/// The signals that all of them are made of, in order, each once.
pub(super) fn places(wants: &[Want]) -> Vec<usize> {
    let mut places: Vec<usize> = wants.iter().flat_map(|want| want.places()).collect();
    places.sort_unstable();
    places.dedup();
    places
}

/// Their numbers.
pub(super) fn signals(wants: &[Want], definition: &StreamDefinition) -> Vec<u16> {
    let places = places(wants).into_iter();
    places.map(|place| definition.signals[place].number).collect()
}
