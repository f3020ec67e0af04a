package config

import (
	"net"
	"strings"
)

// checkSentinel: Sentinel clients dial host:port only, and are sent to host:port only. A witness sends them to others.
func (c *Config) checkSentinel(p *problems) {
	s := &c.Sentinel
	if s.PasswordFile != "" {
		password, err := readPassword(s.PasswordFile)
		if err != nil {
			c.wrong(p, "sentinel.password_file", "%v", err)
		}
		s.Password = Secret(password)
	}
	checkServerTLS(c, p, "sentinel", s.TLSCert, s.TLSKey, s.TLSCA)
	if s.Listen == "" {
		for _, x := range []struct{ key, value string }{{"sentinel.name", s.Name}, {"sentinel.announce", s.Announce}, {"sentinel.password_file", s.PasswordFile}, {"sentinel.tls_cert", s.TLSCert}} {
			if x.value != "" {
				c.wrong(p, x.key, "has no effect without sentinel.listen")
			}
		}
		return
	}
	if strings.ContainsAny(s.Name, " \t\r\n") {
		c.wrong(p, "sentinel.name", "%q has a space: clients take the name apart there", s.Name)
	}
	if anyHost(s.Listen) && s.Announce == "" {
		c.wrong(p, "sentinel.announce", "has to be set, because sentinel.listen %s names no host", s.Listen)
	}
	if c.Role != RoleWitness && c.Reach() == "" {
		c.wrong(p, "sentinel.listen", "needs an address that clients can be sent to: set client.tcp, and client: host:port in this node's entry of peers if client.tcp names no host")
	}
}

// Reach is the host:port where clients reach this node over TCP: what peers says of it, else client.tcp; "" if they cannot.
func (c *Config) Reach() string {
	if own := c.Self().Client; own != "" && checkAddr(own) == nil {
		return own
	}
	if c.Client.TCP == "" || anyHost(c.Client.TCP) {
		return ""
	}
	return c.Client.TCP
}

// SentinelAddr is where clients reach this node's Sentinel API, "" if there is none.
func (c *Config) SentinelAddr() string {
	if c.Sentinel.Announce != "" {
		return c.Sentinel.Announce
	}
	return c.Sentinel.Listen
}

// anyHost reports whether addr is of a listener on all addresses.
func anyHost(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && (host == "" || ip != nil && ip.IsUnspecified())
}
