// Frames side by side that show one place: a drag moves it, the wheel zooms, a click sets the cross.
// All that is on hand is drawn here at once. Python is told where the view is, and sends what is missing.

const TOLD = 60 // ms between two messages to Python while the pointer moves
const NEAR = 8 // px of the screen: how exactly a line or a point must be met
const GAP = 8, TEXT = 34 // px between frames, and of a frame's title and note
const SHAPES = {
  circle: (c, x, y, r) => c.arc(x, y, r, 0, 2 * Math.PI),
  square: (c, x, y, r) => c.rect(x - r, y - r, 2 * r, 2 * r),
  triangle: (c, x, y, r) => { c.moveTo(x, y - r); c.lineTo(x + r, y + r); c.lineTo(x - r, y + r); c.closePath() },
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), Math.max(low, high))
const made = (tag, name, parent) => {
  const element = document.createElement(tag)
  element.className = name
  parent.append(element)
  return element
}
// At most one call per TOLD ms, and always the last one
const seldom = act => {
  let waiting = null, last = 0
  return () => {
    clearTimeout(waiting)
    const now = () => { last = performance.now(); act() }
    const left = last + TOLD - performance.now()
    left > 0 ? waiting = setTimeout(now, left) : now()
  }
}

function render({ model, el }) {
  const root = made('div', 'clippan-canvas', el)
  // Keys go to the canvas, not to the notebook's shortcuts
  root.dataset.lmSuppressShortcuts = 'true'
  root.tabIndex = 0
  const grid = made('div', 'clippan-frames', root)
  const bars = made('div', 'clippan-bars', root)
  const status = made('div', 'clippan-status', root)
  let frames = [], view = [0, 0, 1], sent = 0, press = null, due = false, side = 0
  let split = model.get('split'), spot = model.get('spot'), images = new Map()

  // What is shown

  const shownOf = frame => frame.still ? frame.still : view
  const redraw = () => {
    if (due) return
    due = true
    requestAnimationFrame(() => { due = false; frames.forEach(draw); report() })
  }
  // What tests and benchmarks look at
  const report = () => {
    root.dataset.view = view.join(' ')
    root.dataset.split = split
    root.dataset.spot = (spot ?? []).join(' ')
    const points = frames[0]?.points
    if (points) {
      const at = place(frames[0]), ends = [0, points.x.length - 1]
      root.dataset.points = ends.flatMap(i => [at.x(points.x[i]) / side, at.y(points.y[i]) / side]).join(' ')
    }
    root.dataset.drawn = Number(root.dataset.drawn ?? 0) + 1
  }
  const place = frame => {
    const [top, left, size] = shownOf(frame), scale = side / size
    return { x: column => (column - left) * scale, y: row => (row - top) * scale, scale }
  }

  function draw(frame) {
    const { canvas } = frame, pixels = Math.round(side * devicePixelRatio), c = canvas.getContext('2d')
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels
    c.setTransform(pixels / side, 0, 0, pixels / side, 0, 0)
    c.clearRect(0, 0, side, side)
    const at = place(frame)
    frame.tiles.forEach((tile, number) => {
      const image = images.get(tile.key)
      if (!image) return
      c.save()
      // Pixels are squares; only what is finer than the screen is averaged
      c.imageSmoothingEnabled = tile.width * at.scale * devicePixelRatio < image.width
      if (frame.tiles.length === 2) {
        c.beginPath()
        number ? c.rect(split * side, 0, side, side) : c.rect(0, 0, split * side, side)
        c.clip()
      }
      c.drawImage(image, at.x(tile.left), at.y(tile.top), tile.width * at.scale, tile.height * at.scale)
      c.restore()
    })
    if (frame.points) drawPoints(c, frame, at)
    c.strokeStyle = '#00ff00'
    c.lineWidth = 1.5
    if (frame.tiles.length === 2) stroke(c, [[split * side, 0], [split * side, side]])
    if (frame.box) {
      const [top, left, size] = frame.box
      c.strokeRect(at.x(left), at.y(top), size * at.scale, size * at.scale)
    }
    if (spot && !frame.still && !frame.points) {
      const x = at.x(spot[1] + 0.5), y = at.y(spot[0] + 0.5)
      stroke(c, [[x - 7, y], [x + 7, y]])
      stroke(c, [[x, y - 7], [x, y + 7]])
    }
    if (press?.frame === frame && press.path) drawPath(c)
  }

  function drawPoints(c, frame, at) {
    const { x, y, colour, shape, chosen, ring, tie } = frame.points
    const one = (i, r) => { c.beginPath(); SHAPES[shape[i]](c, at.x(x[i]), at.y(y[i]), r) }
    const some = chosen.length ? new Set(chosen) : null
    for (let i = 0; i < x.length; i++) {
      c.globalAlpha = some && !some.has(i) ? 0.15 : 0.75
      c.fillStyle = colour[i]
      one(i, 4)
      c.fill()
    }
    c.globalAlpha = 1
    c.lineWidth = 1.5
    c.strokeStyle = '#000000'
    stroke(c, tie.map(i => [at.x(x[i]), at.y(y[i])]))
    ring.forEach((i, number) => { one(i, number ? 7 : 10); c.stroke() })
  }

  const stroke = (c, points) => {
    c.beginPath()
    points.forEach(([x, y], number) => number ? c.lineTo(x, y) : c.moveTo(x, y))
    c.stroke()
  }
  function drawPath(c) {
    const path = press.path
    c.setLineDash([5, 4])
    c.strokeStyle = press.frame.points ? '#000000' : '#00ff00'
    if (press.frame.points) stroke(c, path)
    else c.strokeRect(path[0][0], path[0][1], path.at(-1)[0] - path[0][0], path.at(-1)[1] - path[0][1])
    c.setLineDash([])
  }

  // Frames from Python

  function layout() {
    const across = root.clientWidth, down = model.get('share') * innerHeight
    if (!across || !frames.length) return
    let columns = 1
    side = 0
    for (let tried = 1; tried <= frames.length; tried++) {
      const rows = Math.ceil(frames.length / tried)
      const fits = Math.min((across - (tried - 1) * GAP) / tried, down / rows - TEXT)
      if (fits > side) [side, columns] = [Math.floor(fits), tried]
    }
    side = Math.max(side, 60)
    grid.style.gridTemplateColumns = `repeat(${columns}, ${side}px)`
    frames.forEach(({ canvas }) => { canvas.style.width = canvas.style.height = `${side}px` })
    redraw()
  }

  function rebuild() {
    const told = model.get('frames')
    if (told.length !== frames.length) {
      grid.replaceChildren()
      frames = told.map(() => {
        const figure = made('figure', 'clippan-frame', grid)
        const heading = made('figcaption', 'clippan-title', figure), canvas = made('canvas', '', figure)
        const frame = { canvas, heading, footing: made('div', 'clippan-note', figure), tiles: [] }
        listen(frame)
        return frame
      })
    }
    told.forEach((given, number) => {
      const { heading, footing, canvas } = Object.assign(frames[number], given)
      heading.textContent = heading.title = given.name
      footing.textContent = footing.title = given.note
      canvas.setAttribute('aria-label', `${given.name}. ${given.note}`)
      canvas.classList.toggle('clippan-chosen', given.marked)
    })
    retile()
    layout()
  }

  async function retile() {
    const told = model.get('tiles'), kept = new Map()
    for (const tile of told.flat()) {
      kept.set(tile.key, images.get(tile.key) ?? createImageBitmap(new Blob([tile.png], { type: 'image/png' })))
    }
    for (const [key, image] of kept) kept.set(key, await image)
    if (told !== model.get('tiles')) return // newer ones are on their way
    images = kept
    frames.forEach((frame, number) => { frame.tiles = told[number] ?? [] })
    redraw()
  }

  function rebar() {
    bars.replaceChildren()
    for (const { png, low, high, label } of model.get('bars')) {
      const bar = made('div', 'clippan-bar', bars), image = new Image()
      image.src = URL.createObjectURL(new Blob([png], { type: 'image/png' }))
      image.onload = () => URL.revokeObjectURL(image.src)
      image.alt = ''
      bar.append(low, image, `${high} ${label}`)
    }
  }

  // What the user does

  const bounds = () => {
    const [height, width] = model.get('extent'), [least, most, step] = model.get('sizes')
    return { height, width, least, most, step }
  }
  function look(top, left, size, rest) {
    const { height, width } = bounds(), unit = rest ? model.get('grid') : 0
    view = [clamp(top, 0, height - size), clamp(left, 0, width - size), size]
    if (unit) view = [Math.floor(view[0] / unit) * unit, Math.floor(view[1] / unit) * unit, size]
    redraw()
    tell()
  }
  const tell = seldom(() => {
    sent += 1
    model.set('wanted', [sent, ...view])
    model.save_changes()
  })
  const save = seldom(() => {
    model.set('split', split)
    model.set('spot', spot)
    model.save_changes()
  })
  let pointed = null
  const hover = seldom(() => pointed && model.send(pointed))

  const inFrame = (frame, event) => {
    const box = frame.canvas.getBoundingClientRect()
    const x = (event.clientX - box.left) * side / box.width, y = (event.clientY - box.top) * side / box.height
    const [top, left, size] = shownOf(frame)
    return { x, y, row: top + y * size / side, column: left + x * size / side }
  }
  const nearest = (frame, { x, y }) => {
    const at = place(frame), found = frame.points.x.map((_, i) => Math.hypot(
      at.x(frame.points.x[i]) - x, at.y(frame.points.y[i]) - y))
    const least = Math.min(...found)
    return least <= 2 * NEAR ? found.indexOf(least) : null
  }

  function listen(frame) {
    const { canvas } = frame
    const number = () => frames.indexOf(frame)
    const onLine = at => frame.tiles.length === 2 && Math.abs(at.x - split * side) < NEAR
    canvas.onpointerdown = event => {
      if (event.button) return
      const at = inFrame(frame, event)
      canvas.setPointerCapture(event.pointerId)
      root.focus({ preventScroll: true })
      const what = onLine(at) ? 'line' : event.shiftKey && !frame.still ? 'path' : 'view'
      press = { frame, what, at, event, from: [...view], moved: false, path: null }
    }
    canvas.onpointermove = event => {
      const at = inFrame(frame, event)
      if (!press) {
        canvas.style.cursor = onLine(at) ? 'ew-resize' : frame.still ? 'pointer' : 'crosshair'
        pointed = { kind: 'hover', frame: number(), row: at.row, column: at.column }
        if (frame.points) pointed.point = nearest(frame, at)
        return hover()
      }
      const dx = event.clientX - press.event.clientX, dy = event.clientY - press.event.clientY
      press.moved ||= Math.hypot(dx, dy) > 3
      if (!press.moved) return
      if (press.what === 'line') {
        split = clamp(at.x / side, 0, 1)
        redraw()
        save()
      } else if (press.what === 'path') {
        press.path = [...(press.path ?? [[press.at.x, press.at.y]]), [at.x, at.y]]
        redraw()
      } else if (!frame.still) {
        canvas.style.cursor = 'grabbing'
        const [top, left, size] = press.from
        look(top - dy * size / side, left - dx * size / side, size, false)
      }
    }
    canvas.onpointerup = event => {
      if (!press) return
      const { what, moved, path, at } = press, here = inFrame(frame, event)
      press = null
      canvas.style.cursor = 'crosshair'
      if (!moved) return click(frame, number(), here)
      if (what === 'view' && !frame.still) look(...view, true)
      if (what !== 'path' || !path) return
      if (frame.points) return lasso(frame, path)
      const { least, most, step } = bounds()
      const wide = Math.max(Math.abs(here.row - at.row), Math.abs(here.column - at.column))
      const size = clamp(Math.round(wide / step) * step, least, most)
      look((here.row + at.row - size) / 2, (here.column + at.column - size) / 2, size, true)
    }
    canvas.onpointerleave = () => { pointed = null; status.textContent = '' }
    canvas.addEventListener('wheel', event => {
      if (frame.still) return
      event.preventDefault()
      const at = inFrame(frame, event)
      zoom(Math.sign(event.deltaY), at.row, at.column)
    }, { passive: false })
  }

  function zoom(way, row, column) {
    const { least, most, step } = bounds(), [top, left, size] = view
    const wanted = Math.round(size * 1.25 ** way / step) * step
    const next = clamp(wanted === size ? size + way * step : wanted, least, most), ratio = next / size
    look(row - (row - top) * ratio, column - (column - left) * ratio, next, true)
  }
  function click(frame, number, at) {
    if (frame.points) {
      const point = nearest(frame, at)
      return model.send(point === null ? { kind: 'lasso', points: [] } : { kind: 'pick', point })
    }
    if (frame.still) return model.send({ kind: 'click', frame: number, row: at.row, column: at.column })
    spot = [Math.floor(at.row), Math.floor(at.column)]
    redraw()
    save()
  }
  function lasso(frame, path) {
    const c = frame.canvas.getContext('2d'), at = place(frame), area = new Path2D()
    path.forEach(([x, y]) => area.lineTo(x, y))
    c.setTransform(1, 0, 0, 1, 0, 0)
    const points = [...frame.points.x.keys()].filter(i =>
      c.isPointInPath(area, at.x(frame.points.x[i]), at.y(frame.points.y[i])))
    model.send({ kind: 'lasso', points })
    redraw()
  }
  root.onkeydown = event => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]
    const way = { '+': -1, '=': -1, '-': 1 }[event.key], [top, left, size] = view, { height, width } = bounds()
    if (!step && !way) return
    event.preventDefault()
    event.stopPropagation()
    if (way) return zoom(way, top + size / 2, left + size / 2)
    if (frames.some(frame => frame.points)) return model.send({ kind: 'step', by: step[0] + step[1] })
    if (event.shiftKey) return look(top + step[0] * size / 8, left + step[1] * size / 8, size, true)
    if (!spot) return
    spot = [clamp(spot[0] + step[0], 0, height - 1), clamp(spot[1] + step[1], 0, width - 1)]
    redraw()
    save()
  }

  // What Python says

  const seen = () => {
    const [answer, ...next] = model.get('view')
    // While the pointer is down, and before Python has seen the last move, it knows less than we do
    if (press || answer < sent || next.length < 3) return
    view = next
    redraw()
  }
  const taken = () => {
    if (press) return
    split = model.get('split')
    spot = model.get('spot')
    redraw()
  }
  const said = message => { if (message.kind === 'said' && pointed) status.textContent = message.text }
  const changes = {
    'change:frames': rebuild, 'change:tiles': retile, 'change:bars': rebar, 'change:view': seen,
    'change:split': taken, 'change:spot': taken, 'change:share': layout, 'msg:custom': said,
  }
  Object.entries(changes).forEach(([name, act]) => model.on(name, act))
  const resized = new ResizeObserver(layout)
  resized.observe(root)
  addEventListener('resize', layout)
  sent = model.get('view')[0] ?? 0
  seen()
  rebar()
  rebuild()
  return () => {
    resized.disconnect()
    removeEventListener('resize', layout)
    Object.entries(changes).forEach(([name, act]) => model.off(name, act))
  }
}

export default { render }
