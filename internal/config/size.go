package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Size is a number of bytes. Its text is a whole number with an optional unit: B, KiB, MiB, GiB, TiB or (powers of 1000) KB, MB, GB, TB.
type Size int64

// units is in the order in which String prefers them.
var units = []struct {
	name  string
	bytes int64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1},
}

// ParseSize reads the text of a Size. It refuses fractions, signs and unknown units.
func ParseSize(text string) (Size, error) {
	s := strings.TrimSpace(text)
	factor := int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			s, factor = strings.TrimSpace(rest), u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is not a size like 64MiB", text)
	}
	if n < 0 {
		return 0, fmt.Errorf("size %q is negative", text)
	}
	if n > math.MaxInt64/factor {
		return 0, fmt.Errorf("size %q is too large", text)
	}
	return Size(n * factor), nil
}

// String returns the size with the largest unit that divides it.
func (s Size) String() string {
	for _, u := range units[:4] {
		if s != 0 && int64(s)%u.bytes == 0 {
			return strconv.FormatInt(int64(s)/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
