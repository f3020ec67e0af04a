package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// refusal is an error reply; the connection is still good.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func asRefusal(err error, r **refusal) bool { return errors.As(err, r) }

// redisConn speaks RESP on a unix socket.
type redisConn struct {
	c       net.Conn
	r       *bufio.Reader
	timeout time.Duration // of each answer
	wait    bool          // WAIT 1 after each SET: Redis' way to have a copy before the answer
}

func dialRedis(socket string, timeout time.Duration, wait bool) (conn, error) {
	return dialRedisAt("unix", socket, timeout, wait)
}

func dialRedisAt(network, addr string, timeout time.Duration, wait bool) (*redisConn, error) {
	c, err := net.DialTimeout(network, addr, timeout)
	if err != nil {
		return nil, err
	}
	return &redisConn{c: c, r: bufio.NewReader(c), timeout: timeout, wait: wait}, nil
}

func (c *redisConn) close() { _ = c.c.Close() }

// do sends commands and returns the last reply's text; the first error reply is an error.
func (c *redisConn) do(cmds ...string) (last string, err error) {
	_ = c.c.SetDeadline(time.Now().Add(c.timeout))
	if _, err := c.c.Write([]byte(strings.Join(cmds, "\r\n") + "\r\n")); err != nil {
		return "", err
	}
	var first error
	for range cmds {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "-") && first == nil:
			first = &refusal{line[1:]}
		case strings.HasPrefix(line, "$-1"):
			last = ""
		case strings.HasPrefix(line, "$"):
			n, err := strconv.Atoi(line[1:])
			if err != nil {
				return "", err
			}
			text := make([]byte, n+2)
			if _, err := readFull(c.r, text); err != nil {
				return "", err
			}
			last = string(text[:n])
		default:
			last = line
		}
	}
	return last, first
}

func readFull(r *bufio.Reader, b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = r.Read(b[n:])
		n += k
	}
	return n, err
}

func (c *redisConn) set(key string, n int) error {
	set := fmt.Sprintf("SET %s %d", key, n)
	if !c.wait {
		_, err := c.do(set)
		return err
	}
	copies, err := c.do(set, "WAIT 1 90")
	if err == nil && copies == ":0" {
		return &refusal{"no copy in time"}
	}
	return err
}

func (c *redisConn) get(key string) (int, error) {
	text, err := c.do("GET " + key)
	if err != nil || text == "" {
		return 0, err
	}
	return strconv.Atoi(text)
}
