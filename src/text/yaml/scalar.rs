//! What a plain scalar means in YAML 1.1 as `PyYAML`'s `SafeLoader` reads it, which is what Ansible sees.
//!
//! The patterns are the ones of the YAML 1.1 type repository (yaml.org/type) with `PyYAML`'s three
//! deviations: `y` and `n` are text, a float needs its dot, and an exponent needs its sign.

use std::sync::LazyLock;

use regex::Regex;

use super::Data;

/// Why a scalar that looks like a number or a date is none. Never holds the value: it may be a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum ScalarError {
    #[error("this integer has no digits")]
    NoDigits,
    #[error("this integer has more than 38 digits")]
    TooLarge,
    #[error("there is no such date or time")]
    NoSuchTime,
    #[error("this value does not fit its tag")]
    WrongForTag,
}

/// A meaning that few people intend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Surprise {
    Octal,
    Sexagesimal,
}

fn pattern(text: &str) -> Regex {
    Regex::new(text).expect("a constant pattern compiles")
}

static INT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+)$",
    )
});

static FLOAT: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    )
});

/// A date alone has two digits everywhere; with a time, month, day and hour may have one.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:([0-9]{4})-([0-9]{2})-([0-9]{2})|([0-9]{4})-([0-9]{1,2})-([0-9]{1,2})(?:[Tt]|[ \t]+)([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]*))?(?:[ \t]*(?:(Z)|([-+])([0-9]{1,2})(?::([0-9]{2}))?))?)$",
    )
});

/// The value of an unquoted, untagged scalar.
pub(super) fn resolve(text: &str) -> Result<(Data, Option<Surprise>), ScalarError> {
    let Some(first) = text.bytes().next() else {
        return Ok((Data::Null, None));
    };
    if let Some(word) = word(text) {
        return Ok((word, None));
    }
    if first.is_ascii_digit() || matches!(first, b'-' | b'+' | b'.') {
        if INT.is_match(text) {
            return int(text);
        }
        if FLOAT.is_match(text) {
            return Ok((float(text), None));
        }
        if TIME.is_match(text) {
            return Ok((Data::Time(time(text)?), None));
        }
    }
    Ok((Data::Str(text.to_owned()), None))
}

/// The value of a scalar under a standard tag (`!!int` …), by the tag's short name; `None` for a tag
/// that is not known here.
pub(super) fn tagged(short: &str, text: &str) -> Option<Result<Data, ScalarError>> {
    let wrong = || Err(ScalarError::WrongForTag);
    Some(match short {
        "str" => Ok(Data::Str(text.to_owned())),
        "null" => Ok(Data::Null),
        "bool" => match word(text) {
            Some(Data::Bool(b)) => Ok(Data::Bool(b)),
            _ => wrong(),
        },
        "int" if INT.is_match(text) => int(text).map(|(data, _)| data),
        "float" if FLOAT.is_match(text) => Ok(float(text)),
        "float" if INT.is_match(text) && !text.contains(':') => Ok(float(text)),
        "timestamp" if TIME.is_match(text) => time(text).map(Data::Time),
        "int" | "float" | "timestamp" => wrong(),
        _ => return None,
    })
}

fn word(text: &str) -> Option<Data> {
    Some(match text {
        "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Data::Bool(true),
        "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Data::Bool(false),
        "~" | "null" | "Null" | "NULL" => Data::Null,
        _ => return None,
    })
}

fn int(text: &str) -> Result<(Data, Option<Surprise>), ScalarError> {
    let digits = text.replace('_', "");
    let (negative, digits) = match digits.as_bytes().first() {
        Some(b'-') => (true, &digits[1..]),
        Some(b'+') => (false, &digits[1..]),
        _ => (false, &digits[..]),
    };
    let radix = |digits: &str, radix: u32| {
        if digits.is_empty() {
            return Err(ScalarError::NoDigits);
        }
        i128::from_str_radix(digits, radix).map_err(|_| ScalarError::TooLarge)
    };
    let (value, surprise) = if digits == "0" {
        (0, None)
    } else if let Some(rest) = digits.strip_prefix("0b") {
        (radix(rest, 2)?, None)
    } else if let Some(rest) = digits.strip_prefix("0x") {
        (radix(rest, 16)?, None)
    } else if let Some(rest) = digits.strip_prefix('0') {
        (radix(rest, 8)?, Some(Surprise::Octal))
    } else if digits.contains(':') {
        let mut value: i128 = 0;
        for part in digits.split(':') {
            let part = radix(part, 10)?;
            value = value.checked_mul(60).and_then(|v| v.checked_add(part)).ok_or(ScalarError::TooLarge)?;
        }
        (value, Some(Surprise::Sexagesimal))
    } else {
        (radix(digits, 10)?, None)
    };
    Ok((Data::Int(if negative { -value } else { value }), surprise))
}

fn float(text: &str) -> Data {
    let lower = text.replace('_', "").to_ascii_lowercase();
    let (sign, digits) = match lower.as_bytes().first() {
        Some(b'-') => (-1.0, &lower[1..]),
        Some(b'+') => (1.0, &lower[1..]),
        _ => (1.0, &lower[..]),
    };
    let number = |s: &str| s.parse::<f64>().unwrap_or(f64::NAN);
    let value = match digits {
        ".inf" => f64::INFINITY,
        ".nan" => f64::NAN,
        _ if digits.contains(':') => digits.split(':').fold(0.0, |sum, part| sum * 60.0 + number(part)),
        _ => number(digits),
    };
    Data::Float(sign * value)
}

/// The text Python's `str()` gives for the date or datetime, after checking that it exists.
fn time(text: &str) -> Result<String, ScalarError> {
    let no = ScalarError::NoSuchTime;
    let caps = TIME.captures(text).ok_or(no)?;
    let number = |i: usize| caps.get(i).map_or(Ok(0), |m| m.as_str().parse::<i16>().map_err(|_| no));
    let date_only = caps.get(1).is_some();
    let first = if date_only { 1 } else { 4 };
    let (year, month, day) = (number(first)?, number(first + 1)?, number(first + 2)?);
    if year < 1 {
        return Err(no);
    }
    let narrow = |n: i16| i8::try_from(n).map_err(|_| no);
    jiff::civil::Date::new(year, narrow(month)?, narrow(day)?).map_err(|_| no)?;
    let date = format!("{year:04}-{month:02}-{day:02}");
    if date_only {
        return Ok(date);
    }
    let (hour, minute, second) = (number(7)?, number(8)?, number(9)?);
    if hour > 23 || minute > 59 || second > 59 {
        return Err(no);
    }
    let mut out = format!("{date} {hour:02}:{minute:02}:{second:02}");
    let fraction: String = caps.get(10).map_or("", |m| m.as_str()).chars().take(6).collect();
    if fraction.bytes().any(|b| b != b'0') {
        out.push('.');
        out.push_str(&format!("{fraction:0<6}"));
    }
    if caps.get(11).is_some() {
        out.push_str("+00:00");
    } else if let Some(sign) = caps.get(12) {
        let (hours, minutes) = (number(13)?, number(14)?);
        if hours * 60 + minutes >= 24 * 60 {
            return Err(no);
        }
        let (hours, minutes) = (hours + minutes / 60, minutes % 60);
        let sign = if hours == 0 && minutes == 0 { "+" } else { sign.as_str() };
        out.push_str(&format!("{sign}{hours:02}:{minutes:02}"));
    }
    Ok(out)
}
