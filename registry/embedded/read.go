package embedded

// read answers the requests that change nothing but the connection's watches.
func (o *owner) read(c *conn, r *request) {
	result, body := o.look(c, r)
	o.reply(c, r.xid, result, body)
}

// look does the reading: the code, and what encodes the body when it is OK.
func (o *owner) look(c *conn, r *request) (code, func(*encoder)) {
	switch r.op {
	case opExists:
		return o.exists(c, r)
	case opGetData:
		return o.visit(c, r, permRead, aspectData, func(n *node, e *encoder) {
			e.bytes(n.data)
			n.encodeStat(e)
		})
	case opGetChildren:
		return o.visit(c, r, permRead, aspectChildren, func(n *node, e *encoder) {
			e.texts(n.childNames())
		})
	case opGetChildren2:
		return o.visit(c, r, permRead, aspectChildren, func(n *node, e *encoder) {
			e.texts(n.childNames())
			n.encodeStat(e)
		})
	case opGetACL:
		return o.visit(c, r, permRead|permAdmin, aspectData, func(n *node, e *encoder) {
			acl := n.acl
			if !allowed(acl, c.ids, permAdmin) {
				acl = maskACL(acl)
			}
			e.acl(acl)
			n.encodeStat(e)
		})
	case opCountChildren:
		return o.visit(c, r, permRead, aspectData, func(_ *node, e *encoder) {
			e.int32(int32(o.tree.countBelow(r.path)))
		})
	case opGetEphemerals:
		return codeOK, func(e *encoder) { e.texts(o.ephemeralsBelow(c, r.path)) }
	case opMultiRead:
		return codeOK, func(e *encoder) { o.multiRead(c, r, e) }
	case opSetWatches, opSetWatches2:
		return o.setWatches(c, r.watches), nil
	case opAddWatch:
		return o.addWatch(c, r)
	case opCheckWatches, opRemoveWatches:
		return o.findWatches(c, r), nil
	}
	return codeUnimplemented, nil
}

// visit answers from a node that is there and may be seen, and sets the watch when one is asked for.
func (o *owner) visit(c *conn, r *request, perm int32, a aspect, body func(*node, *encoder)) (code, func(*encoder)) {
	n := o.tree.nodes[r.path]
	switch {
	case n == nil:
		return codeNoNode, nil
	case !allowed(n.acl, c.ids, perm):
		return codeNoAuth, nil
	case r.watch && !o.watch(c, r.path, a, watchOnce):
		return codeQuotaExceeded, nil
	}
	return codeOK, func(e *encoder) { body(n, e) }
}

// exists needs no permission, and sets its watch on a node that is absent too.
func (o *owner) exists(c *conn, r *request) (code, func(*encoder)) {
	if r.watch && !o.watch(c, r.path, aspectData, watchOnce) {
		return codeQuotaExceeded, nil
	}
	n := o.tree.nodes[r.path]
	if n == nil {
		return codeNoNode, nil
	}
	return codeOK, n.encodeStat
}

// watch sets a watch unless the connection has as many as it may.
func (o *owner) watch(c *conn, path string, a aspect, mode watchMode) bool {
	if _, has := c.watched[watchKey{path, a}]; !has && len(c.watched) >= o.options.MaxWatches {
		return false
	}
	o.watches.add(c, path, a, mode)
	return true
}

func (o *owner) ephemeralsBelow(c *conn, prefix string) []string {
	var list []string
	for _, path := range o.tree.ownedBy(c.session.id) {
		if len(path) >= len(prefix) && path[:len(prefix)] == prefix {
			list = append(list, path)
		}
	}
	return list
}

// setWatches sets a reconnected client's watches again. What has changed since it last heard from us
// is told at once, in place of the watch.
func (o *owner) setWatches(c *conn, w *watchLists) code {
	if len(c.watched)+len(w.data)+len(w.exist)+len(w.child)+2*len(w.persistent)+len(w.recursive) > o.options.MaxWatches {
		return codeQuotaExceeded
	}
	for _, path := range w.data {
		switch n := o.tree.nodes[path]; {
		case n == nil:
			o.event(c, path, eventDeleted)
		case n.modified > w.zxid:
			o.event(c, path, eventDataChanged)
		default:
			o.watches.add(c, path, aspectData, watchOnce)
		}
	}
	for _, path := range w.exist {
		if o.tree.nodes[path] != nil {
			o.event(c, path, eventCreated)
		} else {
			o.watches.add(c, path, aspectData, watchOnce)
		}
	}
	for _, path := range w.child {
		switch n := o.tree.nodes[path]; {
		case n == nil:
			o.event(c, path, eventDeleted)
		case n.childrenModified > w.zxid:
			o.event(c, path, eventChildrenChanged)
		default:
			o.watches.add(c, path, aspectChildren, watchOnce)
		}
	}
	for _, path := range w.persistent {
		o.watches.add(c, path, aspectData, watchPersistent)
		o.watches.add(c, path, aspectChildren, watchPersistent)
	}
	for _, path := range w.recursive {
		o.watches.add(c, path, aspectData, watchRecursive)
	}
	return codeOK
}

// addWatch sets a watch that stays. The body of its answer is an error code of its own.
func (o *owner) addWatch(c *conn, r *request) (code, func(*encoder)) {
	const persistent, recursive = 0, 1
	room := len(c.watched)+2 <= o.options.MaxWatches
	switch {
	case r.mode != persistent && r.mode != recursive:
		return codeBadArguments, nil
	case !room:
		return codeQuotaExceeded, nil
	case r.mode == persistent:
		o.watches.add(c, r.path, aspectData, watchPersistent)
		o.watches.add(c, r.path, aspectChildren, watchPersistent)
	default:
		o.watches.add(c, r.path, aspectData, watchRecursive)
	}
	return codeOK, func(e *encoder) { e.int32(int32(codeOK)) }
}

// findWatches checks that the connection watches the path in the way asked for and, for
// removeWatches, ends that.
func (o *owner) findWatches(c *conn, r *request) code {
	const children, data, anyWay, persistent, recursive = 1, 2, 3, 4, 5
	aspects, mode := []aspect{aspectData, aspectChildren}, watchAny
	switch r.mode {
	case children:
		aspects = aspects[1:]
	case data:
		aspects = aspects[:1]
	case anyWay:
	case persistent:
		mode = watchPersistent
	case recursive:
		mode = watchRecursive
	default:
		return codeBadArguments
	}
	result := codeNoWatcher
	for _, a := range aspects {
		if !o.watches.has(c, r.path, a, mode) {
			continue
		}
		result = codeOK
		if r.op == opRemoveWatches {
			o.watches.remove(c, watchKey{r.path, a}, mode)
		}
	}
	return result
}

// serveSession answers the requests about the connection itself.
func (o *owner) serveSession(c *conn, r *request) {
	switch r.op {
	case opPing:
		o.reply(c, r.xid, codeOK, nil)
	case opAuth:
		o.auth(c, r)
	case opSync: // there is no other server to catch up with
		o.reply(c, r.xid, codeOK, func(e *encoder) { e.text(r.path) })
	case opReconfig:
		o.reply(c, r.xid, codeReconfigDisabled, nil)
	case opWhoAmI:
		o.reply(c, r.xid, codeOK, func(e *encoder) {
			e.int32(int32(len(c.ids)))
			for _, id := range c.ids {
				user := id.name
				if id.scheme == "digest" {
					user = maskACL([]aclEntry{{id: id}})[0].id.name
					user = user[:len(user)-len(":x")]
				}
				e.text(id.scheme)
				e.text(user)
			}
		})
	}
}

// maxIdentities bounds what one connection can show itself to be.
const maxIdentities = 64

// auth adds an identity to the connection. A scheme that is not known ends the connection, as in
// ZooKeeper: a client must not go on believing that it is somebody.
func (o *owner) auth(c *conn, r *request) {
	switch {
	case r.scheme == "ip": // every connection has it from the start
	case r.scheme == "digest" && len(c.ids) < maxIdentities:
		id := digestIdentity(r.data)
		for _, have := range c.ids {
			if have == id {
				o.reply(c, r.xid, codeOK, nil)
				return
			}
		}
		c.ids = append(c.ids, id)
	default:
		o.log.Debug("auth refused", "scheme", r.scheme, "remote", c.remote)
		o.reply(c, r.xid, codeAuthFailed, nil)
		c.finish()
		o.detach(c)
		return
	}
	o.reply(c, r.xid, codeOK, nil)
}
