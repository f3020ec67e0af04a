package faultfs

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Call is an operation that met a rule, on its way to the file system below.
type Call struct {
	Op   Op
	Data []byte // to be written or read into; nil for other operations

	fs   *FS
	file vfs.File // of an operation on an open file
	do   func([]byte) (int, error)
}

// Do does the operation as it was asked for.
func (c *Call) Do() (int, error) { return c.do(c.Data) }

// Fault is what happens instead of an operation. It returns what the caller is told.
type Fault func(c *Call) (int, error)

// errUnable: the file system below cannot do what the fault needs of it.
var errUnable = errors.New("faultfs: the file system below cannot do this fault")

// Fail does nothing and reports err (FAULTS D6, D7, D18).
func Fail(err error) Fault { return func(*Call) (int, error) { return 0, err } }

// Short does only the first n bytes of a write or read and reports so, with err (FAULTS D3). With a nil err a write that is short says so by its
// length alone, as a careless system would.
func Short(n int, err error) Fault {
	return func(c *Call) (int, error) {
		done, failed := c.do(c.Data[:min(n, len(c.Data))])
		return done, errors.Join(failed, err)
	}
}

// Cut does only the first n bytes of a write and reports all of it as done (FAULTS D1, D14).
func Cut(n int) Fault {
	return func(c *Call) (int, error) {
		if _, err := c.do(c.Data[:min(n, len(c.Data))]); err != nil {
			return 0, err
		}
		return len(c.Data), nil
	}
}

// Lost does nothing and reports the operation as done (FAULTS D14).
func Lost() Fault { return func(c *Call) (int, error) { return len(c.Data), nil } }

// Misdirect writes at another place of the same file, by bytes further on, and reports the write as done (FAULTS D13).
func Misdirect(by int64) Fault {
	return func(c *Call) (int, error) { return c.file.WriteAt(c.Data, max(0, c.Op.Offset+by)) }
}

// MisdirectTo writes at the same place of another file, and reports the write as done (FAULTS D13).
func MisdirectTo(name string) Fault {
	return func(c *Call) (int, error) {
		f, err := c.fs.base.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return 0, fmt.Errorf("%w: %w", errUnable, err)
		}
		n, err := f.WriteAt(c.Data, c.Op.Offset)
		return n, errors.Join(err, f.Close())
	}
}

// FlipBit inverts one bit of what is written or read; a bit beyond it is taken modulo its length (FAULTS D8 to D12).
func FlipBit(bit int64) Fault {
	return func(c *Call) (int, error) {
		if c.Op.Kind == OpWrite {
			b := bytes.Clone(c.Data)
			flip(b, bit)
			return c.do(b)
		}
		n, err := c.Do()
		flip(c.Data[:n], bit)
		return n, err
	}
}

func flip(b []byte, bit int64) {
	if len(b) > 0 {
		bit %= int64(len(b)) * 8
		b[bit/8] ^= 1 << (bit % 8)
	}
}

// Stale reads what was there before the last write (FAULTS D15). It needs a Disk below.
func Stale() Fault {
	return func(c *Call) (int, error) {
		f, ok := c.file.(interface {
			ReadStale(p []byte, off int64) (int, error)
		})
		if !ok {
			return 0, errUnable
		}
		return f.ReadStale(c.Data, c.Op.Offset)
	}
}

// DropPages fails a sync with err and forgets what it should have made durable: what is read afterwards is the older content, and the next sync succeeds
// (FAULTS D4). It needs a Disk below.
func DropPages(err error) Fault {
	return func(c *Call) (int, error) {
		f, ok := c.file.(interface{ DropUnsynced() })
		if !ok {
			return 0, errUnable
		}
		f.DropUnsynced()
		return 0, err
	}
}

// Slow waits for so long, then does the operation (FAULTS D16).
func Slow(d time.Duration) Fault {
	return func(c *Call) (int, error) {
		<-time.After(d)
		return c.Do()
	}
}

// Stuck holds operations until release is closed, then does them (FAULTS D17). Each sends to entered first if that has room; entered may be nil.
func Stuck(entered chan<- Op, release <-chan struct{}) Fault {
	return func(c *Call) (int, error) {
		select {
		case entered <- c.Op:
		default:
		}
		<-release
		return c.Do()
	}
}
