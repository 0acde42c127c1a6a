//! Student's t distribution: how far an estimate may be off at so many degrees of freedom.

/// More degrees of freedom than these are the normal distribution, to six digits.
const FREEDOM_MAX: f64 = 1e6;
/// Steps of the continued fraction; it needs O(√degrees of freedom) of them at worst.
const STEPS_MAX: u32 = 10_000;

/// The t within which `confidence` (0 to 1) of the distribution lies, on both sides of 0.
pub fn critical(confidence: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    while within(high, freedom) < confidence && high < 1e9 {
        high *= 2.0;
    }
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if within(middle, freedom) < confidence { low = middle } else { high = middle }
    }
    high
}

/// P(|T| ≤ t).
fn within(t: f64, freedom: f64) -> f64 {
    let freedom = freedom.clamp(1e-3, FREEDOM_MAX);
    1.0 - beta(freedom / (freedom + t * t), freedom / 2.0, 0.5)
}

/// The regularised incomplete beta function I_x(a, b) (DLMF 8.17.22), by Lentz's method.
fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    let front = (a * x.ln() + b * (-x).ln_1p() + ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b)).exp() / a;
    let term = |number: u32| {
        let m = f64::from(number / 2);
        if number == 0 {
            1.0
        } else if number.is_multiple_of(2) {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        }
    };
    let not_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut fraction, mut c, mut d) = (1.0, 1.0, 0.0);
    for number in 0..STEPS_MAX {
        d = 1.0 / not_zero(1.0 + term(number) * d);
        c = not_zero(1.0 + term(number) / c);
        fraction *= c * d;
        if (1.0 - c * d).abs() < 1e-13 && number > 0 {
            break;
        }
    }
    front * (fraction - 1.0)
}

/// ln Γ(x) for x > 0 (Lanczos, 1964; g = 7, 9 terms).
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = x - 1.0;
    let sum = TERMS
        .iter()
        .enumerate()
        .fold(0.999_999_999_999_809_9, |sum, (index, term)| sum + term / (x + index as f64 + 1.0));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critical_values_are_those_of_the_printed_tables() {
        for (confidence, freedom, expected) in [
            (0.95, 1.0, 12.706),
            (0.95, 4.0, 2.776),
            (0.99, 4.0, 4.604),
            (0.9875, 10.0, 3.038),
            (0.95, 30.0, 2.042),
            (0.95, 1e9, 1.960),
            (0.99, 1e9, 2.576),
            (0.80, 1e9, 1.282),
        ] {
            let value = critical(confidence, freedom);
            assert!((value - expected).abs() < 0.001, "{confidence} {freedom}: {value}, not {expected}");
        }
    }
}
