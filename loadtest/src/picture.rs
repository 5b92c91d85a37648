//! The test picture: colour bars, a ball that travels, snow that costs bits, a clock, and the frame number in
//! black and white blocks that a program can read from the decoded picture.

/// Bits of the frame number in the picture.
const NUMBER_BITS: u32 = 16;
/// Columns of the block row: a white and a black block for calibration, then the number, most significant bit
/// first.
const BLOCKS: usize = 2 + NUMBER_BITS as usize;
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Chroma of what has no colour.
const GREY: u8 = 128;

/// A picture in planar YUV 4:2:0.
pub struct Picture {
    width: usize,
    height: usize,
    /// Luma, then the two chroma planes.
    pub planes: [Vec<u8>; 3],
    noise: u32,
}

impl Picture {
    /// A black picture; both sides must be even.
    pub fn new(width: usize, height: usize) -> Self {
        let chroma = width / 2 * (height / 2);
        let planes = [vec![BLACK; width * height], vec![GREY; chroma], vec![GREY; chroma]];
        Picture { width, height, planes, noise: 0x9e37_79b9 }
    }

    /// Draws frame `number` at `seconds` into its loop of `loop_seconds`.
    pub fn draw(&mut self, number: u32, seconds: f64, loop_seconds: f64) {
        self.bars(seconds / loop_seconds);
        self.snow();
        self.ball(seconds / loop_seconds);
        self.clock(seconds);
        self.number(number);
    }

    fn bars(&mut self, turn: f64) {
        let (width, half) = (self.width, self.width / 2);
        let shift = (turn * width as f64) as usize;
        for (y, row) in self.planes[0].chunks_exact_mut(width).enumerate() {
            for (x, luma) in row.iter_mut().enumerate() {
                *luma = 60 + (((x + shift) % width) * 120 / width) as u8 + ((y / 8) % 2) as u8 * 8;
            }
        }
        for plane in 1..3 {
            for row in self.planes[plane].chunks_exact_mut(half) {
                for (x, chroma) in row.iter_mut().enumerate() {
                    let bar = (x + shift / 2) % half * 8 / half;
                    *chroma = 80 + ((bar * (plane * 3)) % 8 * 12) as u8;
                }
            }
        }
    }

    /// Fresh noise in the lowest eighth: no encoder predicts it, so the bitrate is really used.
    fn snow(&mut self) {
        let from = self.width * (self.height - self.height / 8);
        for luma in &mut self.planes[0][from..] {
            self.noise ^= self.noise << 13;
            self.noise ^= self.noise >> 17;
            self.noise ^= self.noise << 5;
            *luma = 112 + (self.noise >> 27) as u8;
        }
    }

    fn ball(&mut self, turn: f64) {
        let angle = turn * std::f64::consts::TAU;
        let radius = self.height as f64 / 10.0;
        let (cx, cy) =
            (self.width as f64 * (0.5 + 0.35 * angle.cos()), self.height as f64 * (0.5 + 0.2 * angle.sin()));
        for y in (cy - radius) as usize..(cy + radius) as usize {
            let reach = (radius * radius - (y as f64 - cy).powi(2)).max(0.0).sqrt();
            self.fill((cx - reach) as usize, y, (2.0 * reach) as usize, 1, WHITE);
        }
    }

    /// Seconds and hundredths into the loop, as four seven-segment digits.
    fn clock(&mut self, seconds: f64) {
        let hundredths = (seconds * 100.0) as usize;
        let size = (self.height / 12).max(4);
        let mut x = self.width / 2 - size * 3;
        for (i, divisor) in [1000, 100, 10, 1].into_iter().enumerate() {
            self.digit(hundredths / divisor % 10, x, self.height / 5, size);
            x += size * if i == 1 { 6 } else { 4 } / 3;
        }
    }

    fn digit(&mut self, digit: usize, x: usize, y: usize, size: usize) {
        const SEGMENTS: [u8; 10] = [0x77, 0x24, 0x5d, 0x6d, 0x2e, 0x6b, 0x7b, 0x25, 0x7f, 0x6f];
        let (long, thin) = (size, (size / 5).max(1));
        // Top, upper left, upper right, middle, lower left, lower right, bottom.
        let places = [
            (0, 0, true),
            (0, 0, false),
            (long - thin, 0, false),
            (0, long, true),
            (0, long, false),
            (long - thin, long, false),
            (0, 2 * long, true),
        ];
        self.fill(x, y, long, 2 * long + thin, BLACK);
        for (bit, (dx, dy, flat)) in places.into_iter().enumerate() {
            if SEGMENTS[digit] >> bit & 1 == 1 {
                let (w, h) = if flat { (long, thin) } else { (thin, long) };
                self.fill(x + dx, y + dy, w, h, WHITE);
            }
        }
    }

    fn number(&mut self, number: u32) {
        let size = self.width / BLOCKS;
        let bits = (0..NUMBER_BITS).rev().map(|bit| number >> bit & 1 == 1);
        for (i, white) in [true, false].into_iter().chain(bits).enumerate() {
            self.fill(i * size, 0, size, block_height(self.height), if white { WHITE } else { BLACK });
        }
    }

    fn fill(&mut self, x: usize, y: usize, width: usize, height: usize, luma: u8) {
        let end = (x + width).min(self.width);
        for row in y..(y + height).min(self.height) {
            let at = row * self.width;
            self.planes[0][at + x.min(end)..at + end].fill(luma);
            let at = row / 2 * (self.width / 2);
            for plane in 1..3 {
                self.planes[plane][at + x.min(end) / 2..at + end / 2].fill(GREY);
            }
        }
    }
}

fn block_height(height: usize) -> usize {
    (height / 12).max(2)
}

/// Reads the frame number from the luma plane of a decoded picture; `None` if its calibration blocks are not
/// there.
#[cfg(test)]
pub fn read_number(luma: &[u8], width: usize, height: usize, stride: usize) -> Option<u32> {
    let size = width / BLOCKS;
    let middle = |block: usize| luma[block_height(height) / 2 * stride + block * size + size / 2];
    let (white, black) = (middle(0), middle(1));
    if white < black.saturating_add(64) {
        return None;
    }
    let threshold = (u16::from(white) + u16::from(black)) / 2;
    Some((2..BLOCKS).fold(0, |number, block| number << 1 | u32::from(u16::from(middle(block)) > threshold)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_can_be_read_at_every_size() {
        for (width, height) in [(64, 48), (320, 180), (1280, 720), (1920, 1080)] {
            let mut picture = Picture::new(width, height);
            for number in [0, 1, 59, 0x5555, 0xffff] {
                picture.draw(number, 1.5, 2.0);
                assert_eq!(read_number(&picture.planes[0], width, height, width), Some(number));
            }
        }
    }

    #[test]
    fn a_grey_picture_has_no_number() {
        assert_eq!(read_number(&[128; 320 * 180], 320, 180, 320), None);
    }
}
