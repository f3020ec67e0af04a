package faultfs

import (
	"bytes"
	"maps"
	"sort"
)

// inode is a file or a directory, under whatever names.
type inode struct {
	dir    bool
	base   []byte            // content before the trace began; never changed
	data   []byte            // content as the living see it
	shared bool              // data is base, to be copied before it is changed
	names  map[string]*inode // of a directory, as the living see them
	begin  map[string]*inode // of a directory, before the trace began
	links  int               // names it has now
	writes []int             // indexes into Disk.effects
	synced []int             // operations that made durable what came before
}

func newInode(dir bool) *inode {
	n := &inode{dir: dir}
	if dir {
		n.names, n.begin = map[string]*inode{}, map[string]*inode{}
	}
	return n
}

// syncedWithin reports whether a sync at or after operation op+1 and before limit covers op.
func (n *inode) syncedWithin(op, limit int) bool {
	i := sort.SearchInts(n.synced, op+1)
	return i < len(n.synced) && n.synced[i] < limit
}

// write changes the living content.
func (n *inode) write(off int64, b []byte) {
	if n.shared {
		n.data, n.shared = bytes.Clone(n.data), false
	}
	if grow := int(off) + len(b) - len(n.data); grow > 0 {
		n.data = append(n.data, make([]byte, grow)...)
	}
	copy(n.data[off:], b)
}

// settle makes the present content what the trace begins with.
func (n *inode) settle() {
	if n.dir {
		n.begin = maps.Clone(n.names)
		return
	}
	n.base, n.shared = n.data, true
}

// effect is a change of the disk, as it was recorded.
type effect struct {
	Op
	node     *inode // written to, or named
	from, to *inode // directories of OpRename's two names, or of the one name (from)
	old, new string // names in them
	data     []byte // of OpWrite
	gone     int    // the operation, a failed sync, that forgot this write; 0 = none
	forced   bool   // durable at once: bit rot
}

// durable reports whether the effect had surely reached the disk when operation n was about to happen.
func (e *effect) durable(n int) bool {
	switch {
	case e.forced:
		return true
	case e.Kind == OpWrite:
		return e.node.syncedWithin(e.Index, n)
	case e.Kind == OpRename:
		return e.from.syncedWithin(e.Index, n) && e.to.syncedWithin(e.Index, n)
	default:
		return e.from.syncedWithin(e.Index, n)
	}
}
