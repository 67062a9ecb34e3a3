package kite

import (
	"fmt"
	"strconv"
	"strings"
)

// ByteSize is a number of bytes; its text form has the unit B, KiB, MiB or GiB, or none.
type ByteSize int64

var units = []struct {
	name  string
	shift uint
}{{"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}, {"", 0}}

// ParseByteSize reads "128MiB".
func ParseByteSize(text string) (ByteSize, error) {
	for _, unit := range units {
		digits, ok := strings.CutSuffix(text, unit.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 0 || n > 1<<62>>unit.shift {
			break
		}
		return ByteSize(n << unit.shift), nil
	}
	return 0, Errorf(Invalid, "size %q: write a number with KiB, MiB, GiB or nothing, as in 128MiB", text)
}

// String uses the largest unit that divides the size.
func (s ByteSize) String() string {
	for _, unit := range units {
		if s != 0 && s%(1<<unit.shift) == 0 {
			return strconv.FormatInt(int64(s)>>unit.shift, 10) + unit.name
		}
	}
	return fmt.Sprintf("%dB", int64(s))
}

// MarshalText writes what UnmarshalText reads.
func (s ByteSize) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what ParseByteSize reads.
func (s *ByteSize) UnmarshalText(text []byte) error {
	parsed, err := ParseByteSize(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}
