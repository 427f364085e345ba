//! A canvas of braille characters: two dots across and four down in each. Pure.
//!
//! # Invariants
//! - A dot is set only by [`Canvas::fill`]; what nobody filled is a space.

/// The dots of a character, by row and column: bits of U+2800.
const DOTS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
/// Dots across a character.
pub(super) const ACROSS: usize = 2;
/// Dots down a character.
pub(super) const DOWN: usize = 4;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Canvas {
    width: usize,
    cells: Vec<u8>,
}

impl Canvas {
    /// Of so many characters.
    pub(super) fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            cells: vec![0; width * height],
        }
    }

    /// Sets the dots of column `x` from row `top` to row `bottom`, both included. What lies outside is left out.
    pub(super) fn fill(&mut self, x: usize, top: usize, bottom: usize) {
        for y in top..=bottom {
            let cell = (y / DOWN) * self.width + x / ACROSS;
            if x < self.width * ACROSS
                && let Some(cell) = self.cells.get_mut(cell)
            {
                *cell |= DOTS[y % DOWN][x % ACROSS];
            }
        }
    }

    /// The characters, row by row.
    pub(super) fn rows(&self) -> impl Iterator<Item = String> + '_ {
        let character = |dots: &u8| match dots {
            0 => ' ',
            dots => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' '),
        };
        self.cells
            .chunks(self.width.max(1))
            .map(move |row| row.iter().map(character).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(fills: &[(usize, usize, usize)]) -> Vec<String> {
        let mut canvas = Canvas::new(3, 2);
        for (x, top, bottom) in fills {
            canvas.fill(*x, *top, *bottom);
        }
        canvas.rows().collect()
    }

    #[test]
    fn dots_are_where_they_were_filled() {
        assert_eq!(drawn(&[]), ["   ", "   "]);
        assert_eq!(drawn(&[(0, 0, 7)]), ["⡇  ", "⡇  "]);
        assert_eq!(drawn(&[(1, 3, 4), (4, 0, 0), (5, 7, 7)]), ["⢀ ⠁", "⠈ ⢀"]);
        assert_eq!(drawn(&[(6, 0, 7), (0, 8, 9)]), ["   ", "   "], "outside");
    }
}
