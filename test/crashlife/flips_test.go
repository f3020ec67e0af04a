package crashlife

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"repld/failover"
	"repld/internal/faultfs"
	"repld/internal/kv"
	"repld/internal/node"
	"repld/wal"
)

// flipped is one inverted bit of a file.
type flipped struct {
	name string
	bit  int64
}

func (f flipped) String() string {
	return fmt.Sprintf("%s, byte %d, bit %d inverted", f.name, f.bit/8, f.bit%8)
}

// flips samples the bits of all files of a disk: one of each byte of small files, of about per bytes of large ones.
func flips(d *faultfs.Disk, per int) []flipped {
	var all []flipped
	for _, name := range d.Files() {
		info, err := d.Stat(name)
		if err != nil || info.Size() == 0 {
			continue
		}
		step := max(1, info.Size()/int64(per))
		for at := int64(0); at < info.Size(); at += step {
			all = append(all, flipped{name, at*8 + at%8})
		}
		for at := int64(0); path.Base(name) == "epoch" && at < 320; at += 8 { // what is in use of the two slots
			all = append(all, flipped{name, at*8 + at%7}, flipped{name, (info.Size()/2+at)*8 + at%7})
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// verify does what `replctl verify DIR` does, and says what it found.
func verify(d *faultfs.Disk) error {
	group := "data/groups/default/"
	_, err := node.CheckIdentity(d, "data")
	errs := []error{err}
	if rep, err := wal.Verify(d, group+"wal", wal.VerifyOptions{}); err != nil || len(rep.Problems) > 0 {
		errs = append(errs, err, errors.Join(rep.Problems...))
	}
	if rep, err := kv.VerifyDir(context.Background(), d, group+"state", nil); err != nil || len(rep.Problems) > 0 {
		errs = append(errs, err)
		for _, p := range rep.Problems {
			errs = append(errs, fmt.Errorf("%v", p))
		}
	}
	copied := vfs.NewMem()
	if err := vfs.CopyAcrossFS(d, group+"epoch", copied, "epoch"); err != nil {
		return err
	}
	slots, rec, err := failover.OpenSlots(failover.SlotsOptions{FS: copied, Dir: "/"})
	errs = append(errs, err, errors.Join(rec.Bad...))
	if err == nil {
		errs = append(errs, slots.Close())
	}
	_, err = failover.OpenFileStore(failover.FileStoreOptions{FS: d, Dir: group + "token"})
	return errors.Join(append(errs, err)...)
}

// TestBitRot inverts bits in every file of a closed directory: each is found, or changes nothing that anybody reads (FAULTS D8 to D12). A node never starts with
// less than was acked, and never answers with a value that nobody wrote.
// Faults: D8, D9, D10, D11, D12 (bits flipped in every file of a closed directory)
func TestBitRot(t *testing.T) {
	s := record(t)
	now := s.disk.Clock().Now()
	per := 60
	if nightly() {
		per = 2000
	}
	var mu sync.Mutex
	counts := map[string]*tally{}
	run(t, flips(s.disk, per), budget(t, 6), func(f flipped) error {
		image := s.disk.Crash(now, faultfs.Everything())
		image.Flip(f.name, f.bit)
		found := verify(image.Crash(image.Clock().Now(), faultfs.Everything()))
		err := s.recovered(now, image)
		mu.Lock()
		defer mu.Unlock()
		c := counts[class(f.name)]
		if c == nil {
			c = &tally{}
			counts[class(f.name)] = c
		}
		c.all++
		if found != nil {
			c.verified++
		}
		if err == nil {
			return nil
		}
		c.refused++
		var lie *lieError
		if errors.As(err, &lie) {
			return fmt.Errorf("%w (verify: %v)", err, found)
		}
		if base := path.Base(f.name); !strings.Contains(err.Error(), strings.TrimSuffix(base, path.Ext(base))) && !strings.Contains(err.Error(), path.Dir(f.name)) {
			return fmt.Errorf("the refusal does not say what is damaged: %w", err)
		}
		return nil
	})
	for name, c := range counts {
		t.Logf("%-12s %4d flips: verify found %d, the node refused or stopped %d", name, c.all, c.verified, c.refused)
	}
}

type tally struct{ all, verified, refused int }

// class is what kind of file a name is.
func class(name string) string {
	base := path.Base(name)
	switch {
	case strings.Contains(name, "/wal/"):
		return "wal"
	case strings.Contains(name, "/token/"):
		return "token"
	case strings.Contains(name, "/state/"):
		return "state " + strings.TrimLeft(strings.TrimRight(base, "0123456789"), "0123456789")
	}
	return base
}
