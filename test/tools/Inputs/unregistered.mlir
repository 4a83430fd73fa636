"elsewhere.op"() : () -> ()
