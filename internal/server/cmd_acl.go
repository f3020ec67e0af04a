package server

import (
	"slices"
)

// aclCommands show who may do what. The ACL file is the operator's: nothing is changed by clients.
func aclCommands() []*command {
	const base = fNoScript | fLoading | fStale
	const admin = base | fAdmin
	refused := func(name string, arity int) *command {
		return &command{name: name, arity: arity, flags: admin, doc: "Refused: the ACL file is the operator's.", do: cmdACLRefused}
	}
	return inGroup("server", []*command{
		{name: "acl", arity: -2, flags: fNoCats, since: "6.0.0", doc: "Users and what they may do.", do: cmdContainer, subs: []*command{
			{name: "whoami", arity: 2, flags: base, doc: "Returns the user of the connection.", do: cmdACLWhoAmI},
			{name: "users", arity: 2, flags: admin, doc: "Names the users.", do: cmdACLUsers},
			{name: "list", arity: 2, flags: admin, doc: "Returns the rules of each user, passwords hidden.", do: cmdACLList},
			{name: "cat", arity: -2, flags: base, doc: "Names the categories, or the commands of one.", do: cmdACLCat},
			refused("setuser", -3), refused("deluser", -3), refused("load", 2), refused("save", 2),
			help("server"),
		}},
	})
}

func (s *Session) userName() string {
	if s.user == nil {
		return "default"
	}
	return s.user.name
}

func cmdACLWhoAmI(c *call) error {
	c.w.BulkString(c.s.userName())
	return nil
}

// aclRules are the users in the order of the file, "default" before them if it is not in it.
func (c *call) aclRules() (names, rules []string) {
	a := c.s.srv.acl.Load()
	if a == nil || a.users["default"] == nil {
		names, rules = []string{"default"}, []string{"user default on ~* +@all"}
	}
	if a != nil {
		for _, n := range a.names {
			names, rules = append(names, n), append(rules, a.users[n].rules)
		}
	}
	return names, rules
}

func cmdACLUsers(c *call) error {
	names, _ := c.aclRules()
	c.bulks(names)
	return nil
}

func cmdACLList(c *call) error {
	_, rules := c.aclRules()
	c.bulks(rules)
	return nil
}

func (c *call) bulks(all []string) {
	c.w.Array(len(all))
	for _, s := range all {
		c.w.BulkString(s)
	}
}

func cmdACLCat(c *call) error {
	if len(c.args) > 3 {
		return c.failArity()
	}
	var out []string
	c.s.srv.table.each(func(cmd *command) {
		for _, cat := range cmd.categories() {
			switch {
			case len(c.args) == 2 && !slices.Contains(out, cat[1:]):
				out = append(out, cat[1:])
			case len(c.args) == 3 && c.is(2, cat[1:]):
				out = append(out, cmd.full)
			}
		}
	})
	if len(out) == 0 {
		return c.fail("ERR Unknown category '" + cut(c.args[2]) + "'")
	}
	c.bulks(out)
	return nil
}

func cmdACLRefused(c *call) error {
	return c.fail("ERR users are not changed by clients: the operator edits client.acl_file and has the node read it again")
}
