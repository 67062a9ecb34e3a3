package embedded

// multi does all operations in one transaction, or none. Its reply always has code OK; the results
// are in the body, each behind a header, and a last header ends them. When one operation is refused
// every result is an error: OK for those before it, its own code, and "runtime inconsistency" for
// those after, which were not tried.
//
//	header  int32 opcode | bool last | int32 code      result  as the operation alone answers,
//	                                                           for an error int32 code
func (o *owner) multi(c *conn, r *request) {
	t := o.begin()
	results := make([]result, 0, len(r.ops))
	for i := range r.ops {
		res, refused := o.execute(c, t, &r.ops[i])
		if refused != codeOK {
			o.cancel(t)
			o.reply(c, r.xid, codeOK, func(e *encoder) { encodeRefusals(e, len(r.ops), i, refused) })
			return
		}
		results = append(results, res)
	}
	o.end(t)
	o.reply(c, r.xid, codeOK, func(e *encoder) {
		for i := range results {
			multiHeader(e, results[i].op, codeOK)
			results[i].encode(e)
		}
		multiEnd(e)
	})
}

func encodeRefusals(e *encoder, n, failed int, refused code) {
	for i := range n {
		each := codeOK
		switch {
		case i == failed:
			each = refused
		case i > failed:
			each = codeRuntimeInconsistency
		}
		multiHeader(e, opError, each)
		e.int32(int32(each))
	}
	multiEnd(e)
}

func multiHeader(e *encoder, op opcode, result code) {
	e.int32(int32(op))
	e.bool(false)
	e.int32(int32(result))
}

func multiEnd(e *encoder) {
	e.int32(-1)
	e.bool(true)
	e.int32(-1)
}

// multiRead answers several reads at once, each with its own code.
func (o *owner) multiRead(c *conn, r *request, e *encoder) {
	for i := range r.ops {
		result, body := o.look(c, &r.ops[i])
		if result != codeOK {
			multiHeader(e, opError, result)
			e.int32(int32(result))
			continue
		}
		multiHeader(e, r.ops[i].op, codeOK)
		body(e)
	}
	multiEnd(e)
}
