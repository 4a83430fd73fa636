func.func @café() { return }
