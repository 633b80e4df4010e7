//! Outgoing permessage-deflate: another library reads back each message, whatever was sent before.
//! Thousands go through one compressor, at each level and window.

use proto::websocket::deflate::{Deflater, LEVELS, WINDOW_BITS};

use crate::compressed::{BORDERS, Material, below, checked};

/// Runs `test` with a new compressor of each level and window.
fn each(mut test: impl FnMut(&mut Deflater, u8)) {
    for level in LEVELS {
        for window_bits in WINDOW_BITS {
            test(&mut Deflater::new(level, window_bits), window_bits);
        }
    }
}

#[test]
fn noise_on_end_breaks_no_compressor() {
    let material = Material::new();
    each(|deflater, window_bits| {
        for at in 0..150 {
            let noise = material.piece(0, at * 997, 900);
            assert_eq!(checked(deflater, window_bits, noise), None);
        }
        let text = material.piece(4, 0, 900);
        assert!(checked(deflater, window_bits, text).is_some());
    });
}

#[test]
fn noise_of_any_size_garbles_nothing_after_it() {
    let material = Material::new();
    let text = material.piece(4, 0, 900);
    each(|deflater, window_bits| {
        // The last one fills level 1's buffer for the second time exactly when its room would be
        // used up.
        for len in [10, 300, 900, 20_000, 66_000, 131_000] {
            assert_eq!(
                checked(deflater, window_bits, material.piece(0, len, len)),
                None
            );
            assert!(checked(deflater, window_bits, text).is_some(), "{len}");
        }
    });
}

#[test]
fn sizes_around_blocks_and_windows_are_read_back() {
    let material = Material::new();
    let mut state = 7;
    each(|deflater, window_bits| {
        for border in BORDERS {
            let len = (border + below(&mut state, 9)).saturating_sub(4);
            let (kind, at) = (below(&mut state, 6), below(&mut state, 1 << 16));
            checked(deflater, window_bits, material.piece(kind, at, len));
        }
    });
}

#[test]
fn any_mixture_of_thousands_of_messages_is_read_back() {
    let material = Material::new();
    let mut state = 1;
    let mut message = Vec::new();
    each(|deflater, window_bits| {
        for _ in 0..2000 {
            message.clear();
            for _ in 0..=below(&mut state, 3) {
                let most = [8, 64, 300, 900][below(&mut state, 4)];
                let (kind, at) = (below(&mut state, 6), below(&mut state, 1 << 16));
                message.extend_from_slice(material.piece(kind, at, below(&mut state, most)));
            }
            checked(deflater, window_bits, &message);
        }
    });
}
