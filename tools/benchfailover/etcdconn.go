package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// etcdConn speaks to etcd's JSON gateway.
type etcdConn struct {
	url string
	c   http.Client
}

func dialEtcd(url string) (conn, error) {
	return &etcdConn{url: url, c: http.Client{Timeout: opTimeout, Transport: &http.Transport{}}}, nil
}

func (c *etcdConn) close() { c.c.CloseIdleConnections() }

func (c *etcdConn) post(path string, in map[string]any, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	resp, err := c.c.Post(c.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return &refusal{resp.Status}
	}
	return json.NewDecoder(resp.Body).Decode(out)
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func (c *etcdConn) set(key string, n int) error {
	var out struct{ Header struct{ Revision string } }
	return c.post("/v3/kv/put", map[string]any{"key": b64(key), "value": b64(strconv.Itoa(n))}, &out)
}

func (c *etcdConn) get(keys []string) ([]int, error) {
	have := make([]int, len(keys))
	for i, k := range keys {
		var err error
		if have[i], err = c.value(k); err != nil {
			return nil, err
		}
	}
	return have, nil
}

func (c *etcdConn) value(key string) (int, error) {
	var out struct {
		Kvs []struct{ Value []byte }
	}
	if err := c.post("/v3/kv/range", map[string]any{"key": b64(key)}, &out); err != nil {
		return 0, err
	}
	if len(out.Kvs) == 0 {
		return 0, nil
	}
	return strconv.Atoi(string(out.Kvs[0].Value))
}

// leader reports whether this member leads, and whether it is well.
func (c *etcdConn) leader() (bool, error) {
	var out struct {
		Header struct {
			MemberID string `json:"member_id"`
		}
		Leader string
	}
	if err := c.post("/v3/maintenance/status", map[string]any{}, &out); err != nil {
		return false, err
	}
	if out.Leader == "" || out.Leader == "0" {
		return false, fmt.Errorf("no leader")
	}
	return out.Leader == out.Header.MemberID, nil
}
