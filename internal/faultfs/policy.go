package faultfs

import (
	"fmt"
	"math/rand/v2"
	"path"
)

// sector is what a disk writes whole or not at all, bytes.
const sector = 512

// Policy says what becomes of what was not synced when the power fails.
type Policy struct {
	name    string
	decide  func() func(i int, e *effect) fate // a fresh decider a crash; i counts the unsynced
	ordered func(dir string) bool              // directories whose names are lost in order; nil = none
}

// String names the policy so that it can be found again: its seed and numbers are in it.
func (p Policy) String() string { return p.name }

// InOrder returns the policy with this change: in the directories that match says, a name change is lost together with all later ones there, as file
// systems with a journal do. Pebble relies on that: it gives the manifest and the marker that names it their names under one sync.
func (p Policy) InOrder(match func(dir string) bool) Policy {
	p.ordered = match
	return p
}

// inOrder makes fates of name changes follow from those of earlier ones.
func (p Policy) inOrder(e *effect, f fate, broken map[*inode]bool) fate {
	if p.ordered == nil || e.Kind == OpWrite {
		return f
	}
	dirs := []*inode{e.from}
	paths := []string{path.Dir(e.Path)}
	switch e.Kind {
	case OpRename:
		dirs, paths = append(dirs, e.to), append(paths, path.Dir(e.To))
	case OpLink:
		paths = []string{path.Dir(e.To)}
	}
	for i, dir := range dirs {
		f.keep = f.keep && !(broken[dir] && p.ordered(paths[i]))
	}
	for _, dir := range dirs {
		broken[dir] = broken[dir] || !f.keep
	}
	return f
}

// fate is what happens to one unsynced change.
type fate struct {
	keep    bool
	sectors *rand.Rand // a write: each of its sectors is kept or not
	prefix  int        // a write: only so many bytes are kept; -1 = all
	zeros   bool       // a lost write: the file has grown nevertheless
}

var (
	kept = fate{keep: true, prefix: -1}
	lost = fate{}
)

func simple(name string, f func(i int) fate) Policy {
	return Policy{name: name, decide: func() func(int, *effect) fate { return func(i int, _ *effect) fate { return f(i) } }}
}

// Nothing keeps nothing that was not synced.
func Nothing() Policy { return simple("nothing unsynced", func(int) fate { return lost }) }

// Everything keeps all, as after the end of the process alone.
func Everything() Policy { return simple("everything", func(int) fate { return kept }) }

// Lose loses the i-th of the unsynced changes (see Disk.Unsynced) and keeps the others, later ones too.
func Lose(i int) Policy {
	return simple(fmt.Sprintf("unsynced %d lost", i), func(j int) fate {
		if i == j {
			return lost
		}
		return kept
	})
}

// Keep keeps only the i-th of the unsynced changes.
func Keep(i int) Policy {
	return simple(fmt.Sprintf("only unsynced %d kept", i), func(j int) fate {
		if i == j {
			return kept
		}
		return lost
	})
}

// Torn keeps everything, but of the i-th unsynced change, if that is a write, only the first bytes.
func Torn(i, bytes int) Policy {
	return simple(fmt.Sprintf("unsynced %d torn after %d bytes", i, bytes), func(j int) fate {
		if i == j {
			return fate{keep: true, prefix: bytes}
		}
		return kept
	})
}

// Random keeps each unsynced change by chance; of the writes, some only in part: the first or some of
// their sectors, or the file's new length with zeros. A sector is kept whole or not at all, as disks do; Torn knows no sectors.
func Random(seed uint64) Policy {
	return Policy{name: fmt.Sprintf("random %d", seed), decide: func() func(int, *effect) fate {
		rng := rand.New(rand.NewPCG(seed, 0xfa17))
		share := []int{20, 50, 80, 95}[rng.IntN(4)] // in hundred
		return func(_ int, e *effect) fate {
			keep := rng.IntN(100) < share
			if e.Kind != OpWrite {
				return fate{keep: keep, prefix: -1}
			}
			switch rng.IntN(6) {
			case 0: // a whole number of sectors
				bytes := rng.IntN(len(e.data)/sector + 1)
				return fate{keep: true, prefix: max(0, bytes*sector-int(e.Offset%sector))}
			case 1:
				return fate{keep: true, prefix: -1, sectors: rng}
			case 2:
				return fate{keep: keep, prefix: -1, zeros: true}
			}
			return fate{keep: keep, prefix: -1}
		}
	}}
}

// apply writes to a file what is left of a write.
func (f fate) apply(n *inode, e *effect) {
	switch {
	case !f.keep && f.zeros:
		if grow := int(e.Offset) + len(e.data) - len(n.data); grow > 0 {
			n.write(int64(len(n.data)), make([]byte, grow))
		}
	case !f.keep:
	case f.sectors != nil:
		for from := 0; from < len(e.data); {
			to := min(len(e.data), from+sector-int((e.Offset+int64(from))%sector))
			if f.sectors.IntN(2) == 0 {
				n.write(e.Offset+int64(from), e.data[from:to])
			}
			from = to
		}
	case f.prefix >= 0 && f.prefix < len(e.data):
		n.write(e.Offset, e.data[:f.prefix])
	default:
		n.write(e.Offset, e.data)
	}
}
