package resp

import "fmt"

// Limits bound what one request may hold. The zero value of a field means its default.
type Limits struct {
	// MaxBulk is the longest argument, bytes. Default and greatest value: 512 MiB.
	MaxBulk int
	// MaxArgs is the most arguments, the command's name included. Default and greatest value: 1 Mi.
	MaxArgs int
	// MaxInline is the longest inline request and the longest length line, bytes. Default 64 KiB.
	MaxInline int
	// MaxRequest is the longest request in all, bytes. Default and greatest value: 1 GiB.
	MaxRequest int
	// AuthArgs is the most arguments before the client gave its password. Default 10.
	AuthArgs int
	// AuthBulk is the longest argument before the client gave its password, bytes. Default 16 KiB.
	AuthBulk int
}

const (
	maxBulk    = 512 << 20
	maxArgs    = 1 << 20
	maxRequest = 1 << 30 // offsets of arguments in a request are kept in 32 bits
)

// EnsureDefaults fills in the fields that are zero.
func (l *Limits) EnsureDefaults() {
	def := func(p *int, v int) {
		if *p == 0 {
			*p = v
		}
	}
	def(&l.MaxBulk, maxBulk)
	def(&l.MaxArgs, maxArgs)
	def(&l.MaxInline, 64<<10)
	def(&l.MaxRequest, maxRequest)
	def(&l.AuthArgs, 10)
	def(&l.AuthBulk, 16<<10)
}

// Validate reports the first limit that is out of range.
func (l *Limits) Validate() error {
	for _, f := range []struct {
		name      string
		v, lo, hi int
	}{
		{"max bulk", l.MaxBulk, 1024, maxBulk},
		{"max args", l.MaxArgs, 16, maxArgs},
		{"max inline", l.MaxInline, 64, maxBulk},
		{"max request", l.MaxRequest, 1024, maxRequest},
		{"args before auth", l.AuthArgs, 3, maxArgs},
		{"bulk before auth", l.AuthBulk, 64, maxBulk},
	} {
		if f.v < f.lo || f.v > f.hi {
			return fmt.Errorf("resp limits: %s is %d, must be between %d and %d", f.name, f.v, f.lo, f.hi)
		}
	}
	return nil
}
