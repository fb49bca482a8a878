//! A QR code as a PNG data URI, for people who have nothing but a page.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qrcodegen::{QrCode, QrCodeEcc};

use crate::Problem;

/// Pixels of a module's side.
const SCALE: usize = 4;
/// Modules of light border; ISO/IEC 18004 asks for four.
const BORDER: i32 = 4;

/// `text` as a QR code: `data:image/png;base64,…`.
pub(crate) fn data_uri(text: &str) -> Result<String, Problem> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium)
        .map_err(|e| Problem::internal(format!("no QR code for a text of {} bytes: {e}", text.len())))?;
    let image = png(&code).map_err(|e| Problem::internal(format!("no PNG of a QR code: {e}")))?;
    Ok(format!("data:image/png;base64,{}", STANDARD.encode(image)))
}

fn png(code: &QrCode) -> Result<Vec<u8>, png::EncodingError> {
    let size = code.size();
    let mut pixels = Vec::new();
    for y in -BORDER..size + BORDER {
        // get_module is light outside of the code.
        let row: Vec<u8> = (-BORDER..size + BORDER)
            .flat_map(|x| [if code.get_module(x, y) { 0 } else { 255 }; SCALE])
            .collect();
        (0..SCALE).for_each(|_| pixels.extend_from_slice(&row));
    }
    let side = u32::try_from(size + 2 * BORDER).unwrap_or(0) * SCALE as u32;
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outside decoder reads back what was written.
    #[test]
    fn an_outside_decoder_reads_it() {
        let text =
            "otpauth://totp/AuthFI:alice@acme.com?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=AuthFI";
        let uri = data_uri(text).expect("encode");
        let file =
            STANDARD.decode(uri.strip_prefix("data:image/png;base64,").expect("prefix")).expect("base64");
        let mut reader = png::Decoder::new(std::io::Cursor::new(file)).read_info().expect("png");
        let mut pixels = vec![0; reader.output_buffer_size().expect("size")];
        let frame = reader.next_frame(&mut pixels).expect("frame");
        let (width, height) = (frame.width as usize, frame.height as usize);
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| pixels[y * width + x]);
        let grids = image.detect_grids();
        assert_eq!(grids.len(), 1);
        assert_eq!(grids[0].decode().expect("decode").1, text);
    }

    #[test]
    fn a_text_that_does_not_fit_is_an_error() {
        assert!(data_uri(&"x".repeat(5_000)).is_err());
    }
}
