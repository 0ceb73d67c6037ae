"""Chat completions by a language model, and answers from given texts or knowledge bases, with or without one."""
