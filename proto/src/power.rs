//! Power is never sent: where a stream has current and voltage, the server and the readers derive it. Pure.

use crate::stream::StreamDefinition;

/// Its number as a signal: above every number that a definition can give.
pub const POWER_NUMBER: u32 = 1 << 16;
/// Its name.
pub const POWER_NAME: &str = "power";
/// Its unit.
pub const POWER_UNIT: &str = "W";

/// Where current (A) and voltage (V) stand, in a stream that has both and no power of its own.
#[must_use]
pub fn power_of(definition: &StreamDefinition) -> Option<(usize, usize)> {
    let place = |name, unit| {
        let mut signals = definition.signals.iter();
        signals.position(|signal| signal.name == name && signal.unit == unit)
    };
    let own = definition.signals.iter().any(|signal| signal.name == POWER_NAME);
    place("current", "A").zip(place("voltage", "V")).filter(|_| !own)
}
