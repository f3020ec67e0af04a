package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// waitCommand gives a replica a second; a WAIT that one replica did not answer is an error of the measurement.
const waitCommand = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$4\r\n1000\r\n"

// errReply is an answer that the load does not expect.
var errReply = errors.New("unexpected answer")

// respConn is one client of a server that speaks the Redis protocol.
type respConn struct {
	net.Conn
	r *bufio.Reader
}

func dialResp(path string) (*respConn, error) {
	c, err := net.DialTimeout("unix", path, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &respConn{Conn: c, r: bufio.NewReaderSize(c, 64<<10)}, nil
}

// appendRequest encodes the present request of w.
func appendRequest(b []byte, get bool, w *work) []byte {
	if get {
		b = append(b, "*2\r\n$3\r\nGET\r\n$16\r\n"...)
		return append(append(b, w.key...), '\r', '\n')
	}
	b = append(b, "*3\r\n$3\r\nSET\r\n$16\r\n"...)
	b = append(append(b, w.key...), "\r\n$"...)
	b = strconv.AppendInt(b, int64(len(w.value)), 10)
	b = append(append(b, '\r', '\n'), w.value...)
	return append(b, '\r', '\n')
}

// errRefused is an error that the server answered.
type errRefused string

func (e errRefused) Error() string { return string(e) }

// line reads one line, valid until the next read, without its end.
func (c *respConn) line() ([]byte, error) {
	b, err := c.r.ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if b = bytes.TrimSuffix(b, []byte("\r\n")); len(b) == 0 {
		return nil, fmt.Errorf("%w: an empty line", errReply)
	}
	if b[0] == '-' {
		return nil, errRefused(b[1:])
	}
	return b, nil
}

// simple reads an answer that has to be this line.
func (c *respConn) simple(want string) error {
	b, err := c.line()
	if err == nil && string(b) != want {
		err = fmt.Errorf("%w: %q, want %q", errReply, b, want)
	}
	return err
}

// bulk reads the value of a key that has to be there, into b when b is not nil.
func (c *respConn) bulk(b *[]byte) error {
	head, err := c.line()
	if err != nil {
		return err
	}
	if string(head) == "$-1" || string(head) == "_" {
		return fmt.Errorf("%w: a key is missing that was written before", errReply)
	}
	n, err := strconv.Atoi(string(head[1:]))
	if head[0] != '$' || err != nil || n < 0 {
		return fmt.Errorf("%w: %q", errReply, head)
	}
	if b == nil {
		_, err = c.r.Discard(n + 2)
		return err
	}
	*b = append((*b)[:0], make([]byte, n+2)...)
	_, err = io.ReadFull(c.r, *b)
	*b = (*b)[:n]
	return err
}

// respCaller sends batches and waits for all their answers.
type respCaller struct {
	*respConn
	get, wait bool
	w         *work
	buf       []byte
}

func (c *respCaller) call(_ context.Context, n int) error {
	c.buf = c.buf[:0]
	for range n {
		c.w.next()
		c.buf = appendRequest(c.buf, c.get, c.w)
	}
	if c.wait {
		c.buf = append(c.buf, waitCommand...)
	}
	if _, err := c.Write(c.buf); err != nil {
		return err
	}
	for range n {
		if err := c.answer(); err != nil {
			return err
		}
	}
	if c.wait {
		return c.simple(":1")
	}
	return nil
}

func (c *respCaller) answer() error {
	if c.get {
		return c.bulk(nil)
	}
	return c.simple("+OK")
}

func (c *respCaller) bound(t time.Time) error { return c.SetDeadline(t) }
func (c *respCaller) close()                  { c.Close() }

// ask sends one inline command and returns the first piece of the answer.
func ask(socket, command string) (string, error) {
	c, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return "", err
	}
	buf := make([]byte, 16<<10)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}
