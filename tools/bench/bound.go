package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The bound is a REFERENCE, not a product: the least that a server can do which keeps the promise "fsynced on two nodes before it is answered". It parses SET and GET, commits in groups to a prewritten
// log here and on one standby at the same time, keeps values in a Go map, answers. It has no checksums, compression, epochs, recovery, order across restarts, expiry or limits; its log is a ring that
// overwrites itself. Two ratios say what they should: near 1.0, repld's own work costs nothing that can be seen; above, it batches better.
//
//	clients ─► goroutine each: parse what has arrived ─► group ─┬─► pwrite, fdatasync ─┬─► map ─► wake all ─► answers
//	                                                            └─► TCP ─► the same ───┘

// boundCommand as first argument makes this program the reference server.
const boundCommand = "bound-server"

// boundLog is how much is written beforehand: enough that the ring does not end in the caches of the disk.
const boundLog = 128 << 20

func boundMain(args []string) error {
	f := flag.NewFlagSet(boundCommand, flag.ContinueOnError)
	client := f.String("client", "", "socket for clients: be the active")
	peer := f.String("peer", "", "address of the standby")
	standby := f.String("standby", "", "address to listen at: be the standby")
	path := f.String("log", "", "log file")
	if err := f.Parse(args); err != nil {
		return err
	}
	log, err := openRing(*path, boundLog)
	if err != nil {
		return err
	}
	if *standby != "" {
		l, err := net.Listen("tcp", *standby)
		if err != nil {
			return err
		}
		return boundStandby(l, log)
	}
	c, err := dialFor(*peer)
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", *client)
	if err != nil {
		return err
	}
	return newBound(log, c).accept(l)
}

func newBound(log *ring, standby net.Conn) *bound {
	b := &bound{log: log, standby: standby, values: map[string][]byte{}, open: newGroup()}
	b.more.L = &b.mu
	go b.commit()
	return b
}

func (b *bound) accept(l net.Listener) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go b.serve(c)
	}
}

// dialFor waits until the standby has written its log beforehand.
func dialFor(addr string) (net.Conn, error) {
	for end := time.Now().Add(startBound); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil || time.Now().After(end) {
			return c, err
		}
		time.Sleep(pollingTime)
	}
}

// ring is a file of zeros that is overwritten from the beginning to the end again and again.
type ring struct {
	file     *os.File
	at, size int
}

func openRing(path string, size int) (*ring, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	for i := 0; i < size; i += 1 << 20 {
		if _, err := file.Write(make([]byte, 1<<20)); err != nil {
			return nil, err
		}
	}
	return &ring{file: file, size: size}, file.Sync()
}

// append returns when b is on the disk.
func (r *ring) append(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), r.size-r.at)
		if _, err := r.file.WriteAt(b[:n], int64(r.at)); err != nil {
			return err
		}
		r.at, b = (r.at+n)%r.size, b[n:]
	}
	return unix.Fdatasync(int(r.file.Fd()))
}

// boundStandby writes each frame and answers one byte.
func boundStandby(l net.Listener, log *ring) error {
	c, err := l.Accept()
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(c, 1<<20)
	var frame []byte
	head := make([]byte, 4)
	for {
		if _, err := io.ReadFull(in, head); err != nil {
			return fmt.Errorf("the active is gone: %w", err)
		}
		n := int(binary.LittleEndian.Uint32(head))
		if cap(frame) < n {
			frame = make([]byte, n)
		}
		if _, err := io.ReadFull(in, frame[:n]); err != nil {
			return err
		}
		if err := log.append(frame[:n]); err != nil {
			return err
		}
		if _, err := c.Write(head[:1]); err != nil {
			return err
		}
	}
}

// bound is the active.
type bound struct {
	log     *ring
	standby net.Conn

	mu     sync.Mutex
	more   sync.Cond
	open   *group
	valuem sync.RWMutex
	values map[string][]byte
}

// group is what one commit writes; done is closed when it is durable on both and its values are visible.
type group struct {
	frame []byte // length of four bytes, then records: lengths of key and value, key, value
	done  chan struct{}
}

func newGroup() *group {
	return &group{frame: make([]byte, 4, 64<<10), done: make(chan struct{})}
}

// add puts the records of one client's batch into the open group.
func (b *bound) add(records []byte) *group {
	b.mu.Lock()
	g := b.open
	if len(g.frame) == 4 {
		b.more.Signal()
	}
	g.frame = append(g.frame, records...)
	b.mu.Unlock()
	return g
}

// commit makes one group after the other durable, here and there at the same time. A disk or a standby that fails ends the program.
func (b *bound) commit() {
	acked := make([]byte, 1)
	for {
		b.mu.Lock()
		for len(b.open.frame) == 4 {
			b.more.Wait()
		}
		g := b.open
		b.open = newGroup()
		b.mu.Unlock()
		binary.LittleEndian.PutUint32(g.frame, uint32(len(g.frame)-4))
		_, sent := b.standby.Write(g.frame)
		err := errors.Join(sent, b.log.append(g.frame))
		if err == nil {
			_, err = io.ReadFull(b.standby, acked)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "bound:", err)
			os.Exit(1)
		}
		b.apply(g.frame[4:])
		close(g.done)
	}
}

func (b *bound) apply(records []byte) {
	b.valuem.Lock()
	for len(records) > 0 {
		k, v := int(binary.LittleEndian.Uint32(records)), int(binary.LittleEndian.Uint32(records[4:]))
		key, value := records[8:8+k], records[8+k:8+k+v]
		if old := b.values[string(key)]; len(old) == v {
			copy(old, value) // readers copy under the lock
		} else {
			b.values[string(key)] = append([]byte(nil), value...)
		}
		records = records[8+k+v:]
	}
	b.valuem.Unlock()
}

// serve takes all commands that have arrived as one batch.
func (b *bound) serve(c net.Conn) {
	defer c.Close()
	in := bufio.NewReaderSize(c, 64<<10)
	var out, records []byte
	var args [3][]byte
	for {
		sets, gets := 0, 0
		out, records = out[:0], records[:0]
		for first := true; first || in.Buffered() > 0; first = false {
			n, err := readArgs(in, &args)
			if err != nil {
				return
			}
			switch {
			case n == 3 && string(args[0]) == "SET":
				sets++
				records = binary.LittleEndian.AppendUint32(records, uint32(len(args[1])))
				records = binary.LittleEndian.AppendUint32(records, uint32(len(args[2])))
				records = append(append(records, args[1]...), args[2]...)
				out = append(out, "+OK\r\n"...)
			case n == 2 && string(args[0]) == "GET":
				gets++
				out = b.appendValue(out, args[1])
			case string(args[0]) == "PING":
				out = append(out, "+PONG\r\n"...)
			default:
				out = append(out, "-ERR the reference server knows SET, GET and PING\r\n"...)
			}
		}
		if sets > 0 {
			<-b.add(records).done
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func (b *bound) appendValue(out, key []byte) []byte {
	b.valuem.RLock()
	defer b.valuem.RUnlock()
	v, ok := b.values[string(key)]
	if !ok {
		return append(out, "$-1\r\n"...)
	}
	out = strconv.AppendInt(append(out, '$'), int64(len(v)), 10)
	return append(append(append(out, "\r\n"...), v...), "\r\n"...)
}
