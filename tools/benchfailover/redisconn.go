package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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

// do sends a command, or several, and returns the last reply's text; the first error reply is an error.
func (c *redisConn) do(cmds ...string) (last string, err error) {
	all, err := c.pipeline(cmds)
	if len(all) > 0 {
		last = all[len(all)-1]
	}
	return last, err
}

// pipeline returns the replies' texts, "" for null; the first error reply is an error.
func (c *redisConn) pipeline(cmds []string) (all []string, err error) {
	_ = c.c.SetDeadline(time.Now().Add(c.timeout))
	if _, err := c.c.Write([]byte(strings.Join(cmds, "\r\n") + "\r\n")); err != nil {
		return nil, err
	}
	var first error
	for range cmds {
		text, err := c.reply()
		var refused *refusal
		switch {
		case asRefusal(err, &refused) && first == nil:
			first = err
		case err != nil && refused == nil:
			return nil, err
		}
		all = append(all, text)
	}
	return all, first
}

func (c *redisConn) reply() (string, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case strings.HasPrefix(line, "-"):
		return "", &refusal{line[1:]}
	case strings.HasPrefix(line, "$-1"):
		return "", nil
	case !strings.HasPrefix(line, "$"):
		return line, nil
	}
	n, err := strconv.Atoi(line[1:])
	if err != nil {
		return "", err
	}
	text := make([]byte, n+2)
	if _, err := io.ReadFull(c.r, text); err != nil {
		return "", err
	}
	return string(text[:n]), nil
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

func (c *redisConn) get(keys []string) ([]int, error) {
	var cmds []string
	for _, k := range keys {
		cmds = append(cmds, "GET "+k)
	}
	all, err := c.pipeline(cmds)
	if err != nil {
		return nil, err
	}
	have := make([]int, len(keys))
	for i, text := range all {
		if text == "" {
			continue
		}
		if have[i], err = strconv.Atoi(text); err != nil {
			return nil, err
		}
	}
	return have, nil
}
