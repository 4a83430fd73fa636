func.func @f() {
  return 7
}
