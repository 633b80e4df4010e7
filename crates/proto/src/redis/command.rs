//! Redis commands as arrays of bulk strings, so a name may contain any byte.

/// Appends one command to `out`.
pub fn append(out: &mut Vec<u8>, arguments: &[&[u8]]) {
    begin(out, arguments.len());
    for argument in arguments {
        append_argument(out, argument);
    }
}

/// Begins a command of `count` arguments, its name included. The arguments follow one by one.
pub fn begin(out: &mut Vec<u8>, count: usize) {
    append_length(out, b'*', count);
}

/// Appends the next argument of a command that was begun.
pub fn append_argument(out: &mut Vec<u8>, argument: &[u8]) {
    append_length(out, b'$', argument.len());
    out.extend_from_slice(argument);
    out.extend_from_slice(b"\r\n");
}

fn append_length(out: &mut Vec<u8>, mark: u8, length: usize) {
    let mut line = [0; 23];
    let mut at = line.len() - 2;
    line[at..].copy_from_slice(b"\r\n");
    let mut rest = length;
    loop {
        at -= 1;
        line[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    at -= 1;
    line[at] = mark;
    out.extend_from_slice(&line[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_packed_as_the_redis_crate_packs_them() {
        let long = vec![b'x'; 12_345];
        for arguments in [
            vec![&b"PING"[..]],
            vec![b"PUBLISH", b"foo", b""],
            vec![b"SUBSCRIBE", b"a\r\nb", b"\0\xff", &long],
        ] {
            let mut packed = Vec::new();
            append(&mut packed, &arguments);
            let owned: Vec<_> = arguments.iter().map(|argument| argument.to_vec()).collect();
            assert_eq!(packed, redis::pack_command(&owned));
        }
    }

    #[test]
    fn the_longest_length_fits_its_line() {
        let mut out = Vec::new();
        begin(&mut out, usize::MAX);
        assert_eq!(out, format!("*{}\r\n", usize::MAX).into_bytes());
    }
}
