package wal

import "sort"

// memoryTail keeps the newest frames for readers that follow the log closely, within a budget; the newest one always. Log.mu
// guards it.
type memoryTail struct {
	limit  int64
	cost   int64
	frames []*Frame // from head on
	head   int
}

func (t *memoryTail) push(f *Frame) {
	t.frames = append(t.frames, f)
	t.cost += f.cost()
	for t.cost > t.limit && len(t.frames)-t.head > 1 {
		t.cost -= t.frames[t.head].cost()
		t.frames[t.head] = nil
		t.head++
	}
	if t.head > 64 && t.head > len(t.frames)/2 {
		n := copy(t.frames, t.frames[t.head:])
		clear(t.frames[n:])
		t.frames, t.head = t.frames[:n], 0
	}
}

// holding returns the frame that contains the LSN, nil if it is not in memory.
func (t *memoryTail) holding(lsn LSN) *Frame {
	live := t.frames[t.head:]
	if len(live) == 0 || lsn < live[0].First || lsn > live[len(live)-1].Last() {
		return nil
	}
	return live[sort.Search(len(live), func(i int) bool { return live[i].Last() >= lsn })]
}

// cut forgets all frames behind lsn.
func (t *memoryTail) cut(lsn LSN) {
	n := len(t.frames)
	for n > t.head && t.frames[n-1].Last() > lsn {
		n--
		t.cost -= t.frames[n].cost()
		t.frames[n] = nil
	}
	t.frames = t.frames[:n]
}
