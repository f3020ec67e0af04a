package main

import (
	"errors"
	"fmt"
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

// secure puts TLS on the listener of a section of the configuration, if there is a certificate for it.
func secure(section string, l net.Listener, o certs.ServerOptions) (net.Listener, error) {
	if o.Cert == "" {
		return l, nil
	}
	s, err := certs.NewServer(l, o)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s tls: %w", section, err), l.Close())
	}
	return s, nil
}
