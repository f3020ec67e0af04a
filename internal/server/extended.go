package server

import (
	"bytes"
	"math/big"
	"strings"
)

// extended is a number as INCRBYFLOAT computes with: x87 extended precision, the "long double" of Redis on amd64, so that
// sums agree to the last digit. It is a binary float with a 64-bit mantissa; NaN does not occur.
type extended struct {
	f   big.Float // valid unless inf
	inf int       // sign of an infinity
}

const (
	mantissa    = 64
	maxExponent = 16384  // 2^16384 is the first number beyond the range
	minExponent = -16445 // 2^-16445 is the smallest positive number
	maxText     = 5 << 10
)

// parseExtended reads a number as strtold does, but nothing may be left over: decimal or hexadecimal, inf, infinity.
func parseExtended(b []byte) (extended, bool) {
	var x extended
	if len(b) == 0 || len(b) >= maxText {
		return x, false
	}
	digits := b
	if digits[0] == '+' || digits[0] == '-' {
		digits = digits[1:]
	}
	if equalFold(digits, "inf") || equalFold(digits, "infinity") {
		x.inf = 1
		if b[0] == '-' {
			x.inf = -1
		}
		return x, true
	}
	if !isNumber(digits) {
		return x, false
	}
	text := strings.ToLower(string(b))
	if _, _, err := x.f.SetPrec(mantissa).Parse(text, 0); err != nil {
		return x, false
	}
	return x, x.inRange()
}

// isNumber reports whether b is an unsigned number of C's syntax: big.Float's own is wider (0b, 0o, underscores) and takes
// leading zeros for octal when followed by no point.
func isNumber(b []byte) bool {
	const decimal, hex = "0123456789", "0123456789abcdefABCDEF"
	digits, exponent := decimal, "eE"
	if len(b) > 2 && b[0] == '0' && (b[1] == 'x' || b[1] == 'X') {
		b, digits, exponent = b[2:], hex, "pP"
	}
	whole := len(b) - len(bytes.TrimLeft(b, digits))
	b = b[whole:]
	fraction := 0
	if len(b) > 0 && b[0] == '.' {
		b = b[1:]
		fraction = len(b) - len(bytes.TrimLeft(b, digits))
		b = b[fraction:]
	}
	if whole+fraction == 0 {
		return false
	}
	if len(b) == 0 {
		return true
	}
	if !strings.ContainsRune(exponent, rune(b[0])) {
		return false
	}
	b = b[1:]
	if len(b) > 0 && (b[0] == '+' || b[0] == '-') {
		b = b[1:]
	}
	return len(b) > 0 && len(bytes.TrimLeft(b, decimal)) == 0
}

// inRange: a number too large or, other than zero, too small is not taken.
func (x *extended) inRange() bool {
	if x.f.IsInf() {
		return false
	}
	e := x.f.MantExp(nil) // 0.5 <= mantissa < 1
	return x.f.Sign() == 0 || e <= maxExponent && e > minExponent
}

// add returns the sum, false when it is infinite or not a number.
func (x extended) add(y extended) (extended, bool) {
	if x.inf != 0 || y.inf != 0 {
		return extended{}, false
	}
	var sum extended
	sum.f.SetPrec(mantissa).Add(x.f.SetPrec(mantissa), y.f.SetPrec(mantissa))
	return sum, sum.f.Sign() == 0 || sum.f.MantExp(nil) <= maxExponent
}

// format writes the number with 17 digits after the point, zeros at the end taken away: "%.17Lf" made friendly.
func (x extended) format() []byte {
	b := x.f.Append(nil, 'f', 17)
	if bytes.IndexByte(b, '.') >= 0 {
		b = bytes.TrimRight(b, "0")
		b = bytes.TrimSuffix(b, []byte("."))
	}
	if string(b) == "-0" {
		return b[1:]
	}
	return b
}
