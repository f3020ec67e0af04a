package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const loyalCount = 4

// loyal are clients that keep writing to one node whatever happens, on bare connections: a client library would give up
// on a frozen node, and its timeouts would hide what the node answers later.
type loyal struct {
	conns []net.Conn

	acked   atomic.Int64
	stale   atomic.Int64 // acknowledged although sent after mark
	late    atomic.Int64 // acknowledged after mark, sent before
	asked   [loyalCount]atomic.Int64
	marked  [loyalCount]atomic.Int64 // the last write that was sent before mark, 0 before mark
	refused atomic.Int64
	unknown atomic.Int64
	each    [loyalCount][]int // acknowledged writes, of each goroutine until stop has returned

	once sync.Once
	wg   sync.WaitGroup
}

// startLoyal connects to n and writes on each connection, one write at a time, until the connection ends.
func startLoyal(ctx context.Context, n *node) (*loyal, error) {
	l := &loyal{}
	dialer := net.Dialer{Timeout: 2 * time.Second}
	for i := range loyalCount {
		c, err := dialer.DialContext(ctx, "unix", n.client)
		if err != nil {
			l.stop()
			return nil, fmt.Errorf("connect to %s: %w", n.name, err)
		}
		l.conns = append(l.conns, c)
		l.wg.Go(func() { l.write(c, i) })
	}
	return l, nil
}

// write repeats one write until the connection ends.
func (l *loyal) write(c net.Conn, id int) {
	r := bufio.NewReader(c)
	for seq := 1; ; seq++ {
		l.asked[id].Store(int64(seq))
		if _, err := fmt.Fprintf(c, "SET %s x\r\n", loyalKey(id, seq)); err != nil {
			return
		}
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			l.unknown.Add(1)
			return
		case strings.HasPrefix(line, "-UNKNOWN"):
			l.unknown.Add(1)
		case strings.HasPrefix(line, "-"):
			l.refused.Add(1)
			time.Sleep(5 * time.Millisecond) // a refusal is quick: do not spin
		default:
			l.each[id] = append(l.each[id], seq)
			l.acked.Add(1)
			if mark := l.marked[id].Load(); mark != 0 && int64(seq) > mark {
				l.stale.Add(1)
			} else if mark != 0 {
				l.late.Add(1)
			}
		}
	}
}

// mark is called while the node is frozen: every connection waits for the answer to one write. From now on an answer to that one can only
// have been decided before the freeze (then the write has to be in the history), and none to a later one may be an acknowledgement.
func (l *loyal) mark() {
	for id := range l.marked {
		l.marked[id].Store(l.asked[id].Load())
	}
}

func loyalKey(id, seq int) string { return fmt.Sprintf("loyal%d:%d", id, seq) }

// missing returns the keys of acknowledged writes that n does not have: those from just before the freeze are the ones at risk.
func (l *loyal) missing(ctx context.Context, n *node) (total int, lost []string, err error) {
	c := dial(n)
	defer c.Close()
	for id, acked := range l.each {
		gone, err := absent(ctx, c, acked, func(seq int) (string, string) { return loyalKey(id, seq), "x" })
		if err != nil {
			return total, lost, err
		}
		total += len(acked)
		lost = append(lost, gone...)
	}
	return total, lost, nil
}

// writing returns when acknowledgements flow.
func (l *loyal) writing(ctx context.Context) error {
	return waitFor(ctx, 5*time.Second, "writes on bare connections", func(context.Context) (bool, error) {
		return l.acked.Load() >= 10*loyalCount, nil
	})
}

func (l *loyal) stop() {
	l.once.Do(func() {
		for _, c := range l.conns {
			c.Close()
		}
	})
	l.wg.Wait()
}
