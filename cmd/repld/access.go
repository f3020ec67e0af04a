package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/user"
	"strconv"

	"repld/internal/admin"
	"repld/internal/certs"
	"repld/internal/config"
	"repld/internal/server"
)

// allowed resolves the names of users and groups.
func allowed(users, groups []string) (a admin.Allow, err error) {
	for _, name := range users {
		id, uerr := strconv.Atoi(name)
		if uerr != nil {
			u, err := user.Lookup(name)
			if err != nil {
				return a, fmt.Errorf("user %q: %w", name, err)
			}
			if id, err = strconv.Atoi(u.Uid); err != nil {
				return a, fmt.Errorf("user %q: id %q", name, u.Uid)
			}
		}
		a.Users = append(a.Users, id)
	}
	for _, name := range groups {
		id, gerr := strconv.Atoi(name)
		if gerr != nil {
			g, err := user.LookupGroup(name)
			if err != nil {
				return a, fmt.Errorf("group %q: %w", name, err)
			}
			if id, err = strconv.Atoi(g.Gid); err != nil {
				return a, fmt.Errorf("group %q: id %q", name, g.Gid)
			}
		}
		a.Groups = append(a.Groups, id)
	}
	return a, nil
}

// restrict lets only those processes in that the settings name, if they name any.
func (d *daemon) restrict(l net.Listener, socket, text string, users, groups []string) (net.Listener, error) {
	a, err := allowed(users, groups)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s socket: %w", socket, err), l.Close())
	}
	return admin.Restrict(l, a, text, func(who admin.Caller) {
		d.logger.Warn("connection refused", "socket", socket, "who", who.String())
		d.node.Refused(socket+" socket", who)
	}), nil
}

// accessList reads the ACL file, nil if there is none.
func accessList(c *config.Config) (*server.ACL, error) {
	if c.Client.ACLFile == "" {
		return nil, nil
	}
	a, err := server.ParseACL(string(c.Client.ACL))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Client.ACLFile, err)
	}
	return a, nil
}

// reloadACL puts the users that next has in force. Whether there are any is not changed while the node runs.
func (d *daemon) reloadACL(next *config.Config) error {
	if d.data == nil || d.config.Client.ACLFile == "" || next.Client.ACLFile == "" {
		return nil
	}
	a, err := accessList(next)
	if err != nil {
		return err
	}
	d.logger.Info("users reloaded", "file", next.Client.ACLFile, "connections_closed", d.data.SetACL(a))
	return nil
}

// secureClients puts TLS on the listener for clients over TCP, if it is configured.
func secureClients(c *config.Config, l net.Listener, logger *slog.Logger) (net.Listener, error) {
	if c.Client.TLSCert == "" {
		return l, nil
	}
	s, err := certs.NewServer(l, certs.ServerOptions{Cert: c.Client.TLSCert, Key: c.Client.TLSKey, ClientCA: c.Client.TLSCA, Logger: logger})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("client tls: %w", err), l.Close())
	}
	return s, nil
}
