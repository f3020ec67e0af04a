package kv

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// closedState writes a small state and closes it.
func closedState(t *testing.T) vfs.FS {
	fs := vfs.NewMem()
	s := openTest(t, Options{FS: fs})
	c := &chain{t: t}
	write(t, s, c, func(x *Txn) error {
		mustSet(t, x, "a", "1", 0)
		mustSet(t, x, "b", "1", ms(time.Hour))
		return nil
	})
	if err := errors.Join(s.Flush(), s.Close()); err != nil {
		t.Fatal(err)
	}
	return fs
}

// meddle writes rows behind the store's back.
func meddle(t *testing.T, fs vfs.FS, fn func(db *pebble.DB) error) {
	t.Helper()
	o := Options{FS: fs, Dir: "state"}
	o.EnsureDefaults()
	db, err := pebble.Open("state", pebbleOptions(o, newHealth(o)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(fn(db), db.Flush(), db.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyFindsContradictions(t *testing.T) {
	expiry := appendExpiryRow(nil, ms(time.Hour), []byte("b"))
	for _, tc := range []struct {
		name, want string
		fn         func(db *pebble.DB) error
	}{
		{"nothing", "", func(*pebble.DB) error { return nil }},
		{"count", "number of keys", func(db *pebble.DB) error {
			return db.Set([]byte(countRow), []byte{0, 0, 0, 0, 0, 0, 0, 3}, pebble.NoSync)
		}},
		{"lost key", "number of keys", func(db *pebble.DB) error { return db.Delete([]byte("\x01a"), pebble.NoSync) }},
		{"lost index row", "expiry index", func(db *pebble.DB) error { return db.Delete(expiry, pebble.NoSync) }},
		{"wrong index row", "expiry index", func(db *pebble.DB) error {
			return errors.Join(db.Delete(expiry, pebble.NoSync),
				db.Set(appendExpiryRow(nil, ms(time.Minute), []byte("b")), nil, pebble.NoSync))
		}},
		{"bad row", "meta row", func(db *pebble.DB) error { return db.Set([]byte("\x01a"), []byte{9, 9}, pebble.NoSync) }},
		{"unknown class", "unknown class", func(db *pebble.DB) error { return db.Set([]byte("\x09a"), nil, pebble.NoSync) }},
		{"unknown system row", "system row", func(db *pebble.DB) error { return db.Set([]byte("\x00z"), nil, pebble.NoSync) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := closedState(t)
			meddle(t, fs, tc.fn)
			calls := 0
			rep, err := VerifyDir(context.Background(), fs, "state", func(done, total int64) {
				calls++
				if done > total {
					t.Errorf("progress %d of %d", done, total)
				}
			})
			if tc.want == "" {
				if err != nil || len(rep.Problems) > 0 || rep.Keys != 2 || rep.Expiring != 1 || rep.Tables == 0 || calls == 0 {
					t.Fatalf("%+v, %v", rep, err)
				}
				return
			}
			if !errors.Is(err, ErrCorrupt) || !strings.Contains(strings.Join(rep.Problems, "\n"), tc.want) {
				t.Fatalf("%v, %q, want a problem about %q", err, rep.Problems, tc.want)
			}
		})
	}
}

func TestVerifyRefuses(t *testing.T) {
	fs := vfs.NewMem()
	openTest(t, Options{FS: fs})
	if _, err := VerifyDir(context.Background(), fs, "state", nil); !errors.Is(err, ErrInUse) || errors.Is(err, ErrCorrupt) {
		t.Errorf("open state: %v, want ErrInUse", err)
	}
	if _, err := VerifyDir(context.Background(), fs, "none", nil); !errors.Is(err, ErrNotExist) {
		t.Errorf("no state: %v, want ErrNotExist", err)
	}
	if err := fs.MkdirAll("empty", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(context.Background(), fs, "empty", nil); !errors.Is(err, ErrNotExist) {
		t.Errorf("empty directory: %v, want ErrNotExist", err)
	}
	closed := closedState(t)
	name, _ := table(t, closed)
	if err := closed.Remove(name); err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyDir(context.Background(), closed, "state", nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("missing table: %v, want ErrCorrupt", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := VerifyDir(ctx, closedState(t), "state", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestDigestCancelledAndLimited(t *testing.T) {
	s := openTest(t, Options{})
	write(t, s, &chain{t: t}, setKeys(300, 1000))
	sn, err := s.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	defer sn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := sn.Digest(ctx, 1000); !errors.Is(err, context.DeadlineExceeded) { // would take 300 s
		t.Fatalf("limited digest: %v", err)
	}
	a, err := sn.Digest(context.Background(), 1<<40)
	if want := digest(t, s); err != nil || a != want || a.Rows != 301 {
		t.Fatalf("digest %+v, %v, want %+v", a, err, want)
	}
}
