package faultfs

import (
	"bytes"
	"maps"
	"slices"
)

// Trace returns the operations that changed the disk, in order. Each of their indexes is a crash point, and so is the clock's Now.
func (d *Disk) Trace() []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	ops := make([]Op, len(d.mu.effects))
	for i := range d.mu.effects {
		ops[i] = d.mu.effects[i].Op
	}
	return ops
}

// Unsynced returns the changes that a power cut just before operation n may lose, in order.
func (d *Disk) Unsynced(n int) []Op {
	d.mu.Lock()
	defer d.mu.Unlock()
	var ops []Op
	for i := range d.mu.effects {
		if e := &d.mu.effects[i]; e.Index < n && e.unsynced(n) {
			ops = append(ops, e.Op)
		}
	}
	return ops
}

// unsynced reports whether the fate of the effect is open when operation n was about to happen.
func (e *effect) unsynced(n int) bool {
	return e.Kind != OpSync && e.Kind != OpDrop && !e.void(n) && !e.durable(n)
}

// void: before operation n a failed sync forgot this write.
func (e *effect) void(n int) bool { return e.gone > 0 && e.gone < n }

// Crash returns what is on the disk when the power fails just before operation n, and the policy says what became of what was not synced. The new disk
// has a clock and a trace of its own; all it holds is durable. The life recorded here may go on.
func (d *Disk) Crash(n int, p Policy) *Disk { return d.CrashOn(&Clock{}, n, p) }

// CrashOn is Crash for one of several disks of a clock that lose their power at one moment: the new disks have one clock, too.
func (d *Disk) CrashOn(clock *Clock, n int, p Policy) *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &copier{to: map[*inode]*inode{}}
	root := c.of(d.mu.root)
	decide := p.decide()
	fates := make([]fate, 0, len(d.mu.effects))
	broken := map[*inode]bool{}
	open := 0
	for i := range d.mu.effects {
		e := &d.mu.effects[i]
		if e.Index >= n {
			break
		}
		f := kept
		if e.unsynced(n) {
			f = p.inOrder(e, decide(open, e), broken)
			open++
		}
		fates = append(fates, f)
		if f.keep {
			c.rename(e)
		}
	}
	c.reach(root)
	for i, f := range fates {
		if e := &d.mu.effects[i]; e.Kind == OpWrite && !e.void(n) {
			if to := c.to[e.node]; to != nil && to.links > 0 {
				f.apply(to, e)
			}
		}
	}
	disk := NewDiskOn(clock)
	disk.mu.root = root
	for _, n := range c.to {
		if n.settle(); !n.dir && n.links > 0 {
			disk.mu.used += int64(len(n.data))
		}
	}
	return disk
}

// Copy returns a disk with the same history, on which another life can go on.
func (d *Disk) Copy() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := NewDisk()
	c.clock.n.Store(int64(d.clock.Now()))
	to := map[*inode]*inode{}
	var of func(n *inode) *inode
	of = func(n *inode) *inode {
		if n == nil || to[n] != nil {
			return to[n]
		}
		m := &inode{dir: n.dir, base: n.base, data: bytes.Clone(n.data), links: n.links, writes: slices.Clone(n.writes), synced: slices.Clone(n.synced)}
		to[n] = m
		if n.dir {
			m.names, m.begin = map[string]*inode{}, map[string]*inode{}
		}
		for name, child := range n.names {
			m.names[name] = of(child)
		}
		for name, child := range n.begin {
			m.begin[name] = of(child)
		}
		return m
	}
	c.mu.root, c.mu.used, c.mu.capacity = of(d.mu.root), d.mu.used, d.mu.capacity
	c.mu.effects = slices.Clone(d.mu.effects)
	for i := range c.mu.effects {
		e := &c.mu.effects[i]
		e.node, e.from, e.to = of(e.node), of(e.from), of(e.to)
	}
	return c
}

// copier makes the inodes of a new disk out of those of an old one.
type copier struct{ to map[*inode]*inode }

// of returns the copy of an inode, as it was before the trace began.
func (c *copier) of(n *inode) *inode {
	if have := c.to[n]; have != nil {
		return have
	}
	m := newInode(n.dir)
	c.to[n] = m
	m.data, m.shared = n.base, true
	for name, child := range n.begin {
		m.names[name] = c.of(child)
	}
	return m
}

// rename does to the names what an effect did. An effect whose forerunner was lost does what it still can.
func (c *copier) rename(e *effect) {
	switch e.Kind {
	case OpCreate, OpMkdir, OpLink:
		c.of(e.from).names[e.old] = c.of(e.node)
	case OpRemove:
		c.drop(e)
	case OpRename:
		c.drop(e)
		c.of(e.to).names[e.new] = c.of(e.node)
	}
}

func (c *copier) drop(e *effect) {
	if dir := c.of(e.from); dir.names[e.old] == c.of(e.node) {
		delete(dir.names, e.old)
	}
}

// reach counts names: what has none is not written.
func (c *copier) reach(n *inode) {
	n.links++
	if n.links > 1 {
		return
	}
	for child := range maps.Values(n.names) {
		c.reach(child)
	}
}

// Flip inverts one bit of a file, on the disk and for readers alike: bit rot. It panics if there is no such bit.
func (d *Disk) Flip(name string, bit int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.lookup("flip", name)
	if err != nil || n.dir || bit/8 >= int64(len(n.data)) {
		panic("faultfs: no such bit in " + name)
	}
	b := []byte{n.data[bit/8] ^ 1<<(bit%8)}
	n.write(bit/8, b)
	n.writes = append(n.writes, d.record(effect{Op: Op{Kind: OpWrite, Path: name, Offset: bit / 8, Length: 1}, node: n, data: b, forced: true}))
}

// Files returns the names of all files, sorted.
func (d *Disk) Files() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	var walk func(n *inode, at string)
	walk = func(n *inode, at string) {
		for _, name := range sorted(n.names) {
			if child := n.names[name]; child.dir {
				walk(child, at+name+"/")
			} else {
				all = append(all, at+name)
			}
		}
	}
	walk(d.mu.root, "")
	return all
}
